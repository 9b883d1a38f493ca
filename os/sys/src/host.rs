//! What this machine is and allows.

/// How many CPUs this process may use; at least 1.
#[must_use]
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
