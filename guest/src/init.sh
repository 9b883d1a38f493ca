#!/bin/busybox sh
# The guest's init. Lines for the host begin with @@. It ends by powering the machine off.
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
[ -f "/scenarios/$SCENARIO.sh" ] || die "the scenario '$SCENARIO' does not exist"
say "up"
. "/scenarios/$SCENARIO.sh"
say "done"
off
