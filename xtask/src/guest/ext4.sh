# A file system on memzip's disk that discards what is deleted, while the host makes the store move everything.

[ -b /dev/vda ] || die "there is no /dev/vda"
# Blocks smaller than a page, so that pages are changed in parts and come into the hot cache.
/sbin/mke2fs -q -F -t ext4 -b 1024 /dev/vda || die "mke2fs"
mount -t ext4 -o discard /dev/vda /mnt || die "mount"
say "mounted $(grep /mnt /proc/mounts)"
# It writes what went wrong itself.
guest-worker files /mnt "$(option rounds)" "$(option mib)" || off
umount /mnt || die "umount"
say "unmounted"
host
