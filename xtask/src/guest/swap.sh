# memzip's disk as swap space: more memory is filled than there is, and every page verified.

[ -b /dev/vda ] || die "there is no /dev/vda"
mkswap /dev/vda > /dev/null || die "mkswap"
swapon -d /dev/vda || die "swapon"
say "swapon $(tail -n 1 /proc/swaps)"
# It writes what went wrong itself.
guest-worker memory "$(option percent)" || off
grep -E '^pswp(in|out) ' /proc/vmstat | sed 's/^/@@ vmstat /'
swapoff /dev/vda || die "swapoff"
say "swapoff"
host
