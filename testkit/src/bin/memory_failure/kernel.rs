//! What the kernel is told and asked about memory failures (KERNEL: `mm/memory-failure.c`).

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use testkit::PAGE_SIZE;

use crate::TestResult;

/// How a page fails, and when the process hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureMode {
    /// The process asks for it with `MADV_HWPOISON`, and gets `BUS_MCEERR_AR` at once, as if it had touched the page (since Linux 6.10).
    Madvise,
    /// By the physical address, as for an error found by scrubbing: `BUS_MCEERR_AR` when a thread touches the page.
    OnAccess,
    /// The same, with early kills switched on: `BUS_MCEERR_AO` as soon as the kernel knows.
    AtOnce,
}

impl FailureMode {
    /// Makes it so for the whole machine.
    pub fn set(self) -> TestResult<()> {
        let value = if self == Self::AtOnce { "1" } else { "0" };
        fs::write("/proc/sys/vm/memory_failure_early_kill", value)
            .map_err(|error| format!("this kernel has no CONFIG_MEMORY_FAILURE: {error}"))
    }
}

/// Pages that the kernel has taken out of use.
pub fn hardware_corrupted() -> TestResult<u64> {
    let info = read("/proc/meminfo")?;
    let line = info.lines().find_map(|line| line.strip_prefix("HardwareCorrupted:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib / 4).ok_or_else(|| "/proc/meminfo has no HardwareCorrupted".to_owned())
}

/// The address of this process's only mapping that has so many bytes.
pub fn mapping(len: u64) -> TestResult<u64> {
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

/// Has the memory below an address of this process fail.
pub fn hard_offline(address: u64) -> TestResult<()> {
    /// An entry's bit that says that there is memory.
    const PRESENT: u64 = 1 << 63;
    /// The bits of its page's number.
    const NUMBER: u64 = (1 << 55) - 1;
    let (mut entry, page) = ([0; 8], address / PAGE_SIZE as u64);
    let pagemap = File::open("/proc/self/pagemap");
    pagemap
        .and_then(|file| file.read_exact_at(&mut entry, page * 8))
        .map_err(|error| format!("pagemap: {error}"))?;
    let entry = u64::from_le_bytes(entry);
    if entry & PRESENT == 0 || entry & NUMBER == 0 {
        return Err(format!("no memory is below address {address:#x}: {entry:#x}"));
    }
    let physical = (entry & NUMBER) * PAGE_SIZE as u64;
    fs::write("/sys/devices/system/memory/hard_offline_page", format!("{physical:#x}"))
        .map_err(|error| format!("hard_offline_page {physical:#x}: {error}"))
}

fn read(path: &str) -> TestResult<String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}
