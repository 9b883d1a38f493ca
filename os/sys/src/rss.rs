//! Resident memory of processes, as the OS counts it.

/// Returns the resident memory of this process, if the OS reports it. Units: bytes.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    kib_field("/proc/self/smaps_rollup", "Rss:")
}

/// Returns the resident memory of a process, if it lives and may be inspected. Units: bytes.
#[must_use]
pub fn of_pid(pid: u32) -> Option<u64> {
    kib_field(&format!("/proc/{pid}/smaps_rollup"), "Rss:")
}

/// Returns the number of bytes in a line `name 123 kB` of a file.
pub(crate) fn kib_field(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
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
