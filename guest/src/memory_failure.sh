# Memory failures below a store in this guest: its kernel supports them, and the host's need not.

# The kernel's two lines for each page would take longer on the serial line than the test itself.
dmesg -n 1
echo "@@ kernel $(uname -r)"
# The program prints its own errors.
memory-failure || off
