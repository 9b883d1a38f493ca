//! Properties and limits of this machine.
//!
//! Functions here read a file under `/proc` or `/sys`, ask the OS, or open a feature's descriptor
//! and close it at once. Only [`raise_open_files`] changes anything: a limit of this process.

mod features;
mod limits;
mod psi;

use std::time::Duration;

pub use features::{
    HugePages, KernelZram, Userfaultfd, huge_pages, io_uring, kernel_zram, kvm, memfd, userfaultfd,
};
pub use limits::{
    Limits, Overcommit, available_memory, cgroup_memory_limit, free_memory, limits, overcommit,
    pressure, raise_open_files,
};
pub use psi::{Psi, PsiError, PsiSource, Share, Stall};

/// Returns the number of CPUs this process may use; at least 1.
#[must_use]
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Returns the CPU time of the calling thread so far, user and kernel. Makes one system call.
#[must_use]
pub fn thread_cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Returns the effective user ID of this process.
#[must_use]
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns whether this process ignores a signal; `nohup` starts its program with SIGHUP ignored.
#[must_use]
pub fn is_signal_ignored(signal: i32) -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, signal))
}

/// Returns whether the line `SigIgn` of a status file contains a signal. The line is a hexadecimal
/// mask; its lowest bit is signal 1.
fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    (1..=64).contains(&signal) && mask >> (signal - 1) & 1 == 1
}

/// Returns the release of the running kernel, as `uname -r` prints it.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_the_bits_of_the_mask() {
        let status = "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\n";
        let ignored: Vec<i32> = (-1..70).filter(|signal| ignores(status, *signal)).collect();
        assert_eq!(ignored, [1, 13]);
        assert!(!ignores("", 1) && !ignores("SigIgn:\tjunk", 1));
    }

    #[test]
    #[cfg_attr(miri, ignore = "counts no CPU time")]
    fn thread_cpu_time_counts_work_and_not_sleep() {
        let start = thread_cpu_time();
        std::thread::sleep(Duration::from_millis(20));
        let slept = thread_cpu_time();
        while thread_cpu_time() < slept + Duration::from_millis(5) {}
        assert!(slept - start < Duration::from_millis(10), "{:?}", slept - start);
    }
}
