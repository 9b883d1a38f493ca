//! Resident memory of processes, as the OS counts it.

/// Returns the resident memory of this process in bytes, from `/proc/self/smaps_rollup`, or `None`
/// where the OS does not report it.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    of_process("self")
}

/// Returns the resident memory of the process with this ID in bytes, or `None` when it is gone or
/// may not be inspected.
#[must_use]
pub fn of_pid(pid: u32) -> Option<u64> {
    of_process(&pid.to_string())
}

fn of_process(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{name}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Rss:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg_attr(miri, ignore = "reads /proc")]
    fn this_process_has_resident_memory() {
        assert!(super::resident_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(super::of_pid(u32::MAX).is_none());
    }
}
