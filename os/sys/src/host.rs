//! What this machine is and allows.
//!
//! Everything here only looks: a file under `/proc` or `/sys` is read, or a feature is asked for, tried and given back at once.
//! `/sys/class/zram-control/hot_add` is never read: reading it creates a device.

mod features;
mod limits;
mod psi;

pub use features::{HugePages, KernelZram, Userfaultfd, huge_pages, io_uring, kernel_zram, kvm, memfd, userfaultfd};
pub use limits::{
    Limits, Overcommit, available_memory, cgroup_memory_limit, limits, overcommit, pressure, raise_open_files,
};
pub use psi::{Psi, PsiError, PsiSource, Share, Stall};

/// How many CPUs this process may use; at least 1.
#[must_use]
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The user this process acts as.
#[must_use]
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Release of the running kernel, as `uname -r` prints it.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}
