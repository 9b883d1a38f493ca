# memzip's disk as swap space: a program fills more memory than the guest has and verifies every page.

[ -b /dev/vda ] || die "/dev/vda is missing"
mkswap /dev/vda > /dev/null || die "mkswap"
swapon -d /dev/vda || die "swapon"
say "swapon $(tail -n 1 /proc/swaps)"
# The program prints its own errors.
guest-worker memory "$(option percent)" || off
grep -E '^pswp(in|out) ' /proc/vmstat | sed 's/^/@@ vmstat /'
swapoff /dev/vda || die "swapoff"
say "swapoff"
host
