//! What this process holds, as the OS counts it.

/// Resident memory of this process in bytes, from `/proc/self/smaps_rollup`; `None` where the OS does not tell.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    of_process("self")
}

/// Resident memory of the process with this number, in bytes; `None` when it is gone or not ours to look at.
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
    fn this_process_holds_something() {
        assert!(super::resident_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(super::of_pid(u32::MAX).is_none());
    }
}
