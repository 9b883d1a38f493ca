//! The kernel's interface for memory failures (KERNEL: `mm/memory-failure.c`).

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use testkit::PAGE_SIZE;

/// A result whose error is a sentence.
pub(crate) type TestResult<T> = Result<T, String>;

/// The way in which a page fails, and when the process is notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureMode {
    /// `MADV_HWPOISON` by the process, which gets `BUS_MCEERR_AR` at once, as if it had touched
    /// the page (since Linux 6.10).
    Madvise,
    /// By physical address, like an error found by scrubbing: `BUS_MCEERR_AR` when a thread
    /// touches
    /// the page.
    OnAccess,
    /// By physical address with early kill enabled: `BUS_MCEERR_AO` as soon as the kernel knows.
    AtOnce,
}

impl FailureMode {
    /// Sets early kill for the whole machine as this mode requires.
    pub(crate) fn set(self) -> TestResult<()> {
        let value = if self == Self::AtOnce { "1" } else { "0" };
        fs::write("/proc/sys/vm/memory_failure_early_kill", value)
            .map_err(|error| format!("this kernel has no CONFIG_MEMORY_FAILURE: {error}"))
    }
}

/// Returns the number of pages that the kernel took out of use.
pub(crate) fn hardware_corrupted() -> TestResult<u64> {
    let info = read("/proc/meminfo")?;
    let line = info.lines().find_map(|line| line.strip_prefix("HardwareCorrupted:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib / 4).ok_or_else(|| "/proc/meminfo has no HardwareCorrupted".to_owned())
}

/// Returns the address of this process's only mapping of `len` bytes.
pub(crate) fn mapping(len: u64) -> TestResult<u64> {
    let number = |text| u64::from_str_radix(text, 16).ok();
    let maps = read("/proc/self/maps")?;
    let ranges = maps.lines().filter_map(|line| line.split_whitespace().next()?.split_once('-'));
    let ranges = ranges.filter_map(|(start, end)| Some((number(start)?, number(end)?)));
    let found: Vec<u64> =
        ranges.filter(|(start, end)| end - start == len).map(|(start, _)| start).collect();
    match found[..] {
        [start] => Ok(start),
        _ => Err(format!("{} mappings have {len} bytes", found.len())),
    }
}

/// Makes the memory at an address of this process fail, by its physical address.
pub(crate) fn hard_offline(address: u64) -> TestResult<()> {
    /// Bit of a pagemap entry: the page is present.
    const PRESENT: u64 = 1 << 63;
    /// Bits of a pagemap entry: the page frame number.
    const NUMBER: u64 = (1 << 55) - 1;
    let (mut entry, page) = ([0; 8], address / PAGE_SIZE as u64);
    let pagemap = File::open("/proc/self/pagemap");
    pagemap
        .and_then(|file| file.read_exact_at(&mut entry, page * 8))
        .map_err(|error| format!("pagemap: {error}"))?;
    let entry = u64::from_le_bytes(entry);
    if entry & PRESENT == 0 || entry & NUMBER == 0 {
        return Err(format!(
            "no memory is present at address {address:#x}: pagemap entry {entry:#x}"
        ));
    }
    let physical = (entry & NUMBER) * PAGE_SIZE as u64;
    fs::write("/sys/devices/system/memory/hard_offline_page", format!("{physical:#x}"))
        .map_err(|error| format!("hard_offline_page {physical:#x}: {error}"))
}

fn read(path: &str) -> TestResult<String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}
