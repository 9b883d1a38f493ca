# An ext4 with discard on memzip's disk, while the host compacts the store and resizes its balloon.

[ -b /dev/vda ] || die "/dev/vda is missing"
# Blocks are smaller than a page, so that parts of pages change and pages enter the hot cache.
/sbin/mke2fs -q -F -t ext4 -b 1024 /dev/vda || die "mke2fs"
mount -t ext4 -o discard /dev/vda /mnt || die "mount"
say "mounted $(grep /mnt /proc/mounts)"
# The program prints its own errors.
guest-worker files /mnt "$(option rounds)" "$(option mib)" || off
umount /mnt || die "umount"
say "unmounted"
host
