#!/bin/busybox sh
# The first and only program of the guest. It tells the host what it does in lines that begin with @@, and ends with the machine off.
/bin/busybox --install -s /bin
export PATH=/bin:/sbin

say() { echo "@@ $*"; }
off() { sync; poweroff -f; sleep 60; }
die() { say "failed $*"; dmesg | tail -n 20; off; }

option() { tr ' ' '\n' < /proc/cmdline | sed -n "s/^guest\.$1=//p"; }

# Waits until the host writes a line.
host() { read -r _ < /dev/console; }

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module.ko" || die "insmod $module"; done < /modules/order
SCENARIO=$(option scenario)
[ -f "/scenarios/$SCENARIO.sh" ] || die "which scenario?"
say "up"
. "/scenarios/$SCENARIO.sh"
say "done"
off
