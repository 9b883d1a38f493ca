# Memory that really fails below a store in this guest: its kernel can take pages away, and the host's need not.

# Two lines for each page would take longer on the serial line than all the rest.
dmesg -n 1
echo "@@ kernel $(uname -r)"
# It writes what went wrong itself.
memory-failure || off
