# E-3: writes the same files to the guest kernel's own zram and to memzip's disk.
# /dev/vda holds the files, /dev/vdb is memzip's disk.

# Prints a file of the kernel; each line names the time of reading.
show() { sed "s|^|@@ $1 ${2##*/} |" "$2"; }

# Prints the state of the kernel's own zram.
moment() { show "$1" /proc/buddyinfo; show "$1" /sys/block/zram0/mm_stat; }

# Runs eight writers at once, each of which copies its own part of the source disk.
fill() {
    # The full path avoids busybox's own mke2fs. Without lazy initialisation the kernel writes nothing
    # later that would change the figures.
    /sbin/mke2fs -q -F -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 "$1" || die "mke2fs $1"
    mount -t ext4 "$1" /mnt || die "mount $1"
    writers=
    for file in 1 2 3 4 5 6 7 8; do
        dd if=/dev/vda of=/mnt/$file bs=1M skip=$(((file - 1) * PART)) count=$PART 2>/dev/null &
        writers="$writers $!"
    done
    for writer in $writers; do wait "$writer" || die "a writer to $1"; done
    sync
    say "filled $1"
}

# Deletes half of the files and discards their blocks.
delete() {
    rm /mnt/1 /mnt/3 /mnt/5 /mnt/7 || die "rm on $1"
    sync
    fstrim /mnt || die "fstrim on $1"
    echo 3 > /proc/sys/vm/drop_caches
    say "deleted $1"
}

# Compares a file with its part of the source disk, byte for byte.
same() {
    dd if=/dev/vda bs=1M skip=$((($1 - 1) * PART)) count=$PART 2>/dev/null | cmp -s - /mnt/$1 && [ "$(stat -c %s /mnt/$1)" = $((PART << 20)) ]
}

# Compares all files that are left. Drops the page cache first, so that they are read from the disk.
verify() {
    echo 3 > /proc/sys/vm/drop_caches
    readers=
    for file in 2 4 6 8; do
        same $file &
        readers="$readers $!"
    done
    for reader in $readers; do wait "$reader" || die "a file on $1 differs from what was written"; done
    umount /mnt || die "umount $1"
    say "verified $1"
}

# Runs the original's steps on the guest kernel's own zram. This comes first, while the machine's
# memory is not fragmented.
kernel() {
    echo "$ALGORITHM" > /sys/block/zram0/comp_algorithm || die "this zram has no $ALGORITHM (choose another with --algorithm)"
    say "kernel $(uname -r) comp_algorithm $(cat /sys/block/zram0/comp_algorithm)"
    cat /sys/block/vdb/size | { read -r sectors; echo $((sectors * 512)); } > /sys/block/zram0/disksize || die "disksize"
    fill /dev/zram0
    delete /dev/zram0
    moment before
    echo 1 > /sys/block/zram0/compact
    moment objects
    echo 1 > /proc/sys/vm/compact_memory
    moment after
    verify /dev/zram0
    echo 1 > /sys/block/zram0/reset
}

# Runs the same steps on memzip's disk. The host compacts it and then writes a line.
memzip() {
    fill /dev/vdb
    delete /dev/vdb
    say "ready"
    host
    verify /dev/vdb
}

PART=$(option part)
ALGORITHM=$(option algorithm)
for needed in vda vdb zram0; do [ -b /dev/$needed ] || die "/dev/$needed is missing"; done
case $(option pass) in
peak) fill /dev/vdb ;;
measure) kernel; memzip ;;
*) die "pass must be peak or measure" ;;
esac
