//! Signals of failed memory that this kernel delivers, and pages that the page table marks as
//! failed.
#![expect(unsafe_code, reason = "the bytes of a mapping are accessed by raw address")]

use std::process::Command;
use std::sync::Arc;

use super::{
    FailedPages, Injection, Notice, WatchedMapping, catch_memory_failures, inject, registry,
};
use crate::{Backing, Mapping};

const LEN: usize = 1 << 20;

fn watched(backing: Backing) -> (WatchedMapping, Arc<FailedPages>) {
    let mapping = Mapping::reserve(LEN, backing).expect("room");
    let failed =
        Arc::new(FailedPages::reserve(LEN / 4096, 4096, Backing::AnonymousSmall).expect("room"));
    (WatchedMapping::new(mapping, Arc::clone(&failed)), failed)
}

fn byte(mapping: &Mapping, offset: usize) -> *mut u8 {
    assert!(offset < LEN);
    // SAFETY: INV-MAP-1: inside the mapping, checked above.
    unsafe { mapping.base().as_ptr().add(offset) }
}

fn get(mapping: &Mapping, offset: usize) -> u8 {
    // SAFETY: INV-MAP-1 and INV-MAP-2; the test has one thread.
    unsafe { byte(mapping, offset).read_volatile() }
}

fn set(mapping: &Mapping, offset: usize, value: u8) {
    // SAFETY: INV-MAP-1; the test has one thread.
    unsafe { byte(mapping, offset).write_volatile(value) }
}

/// an access to failed memory completes on a fresh page, the failure is noted, and the
/// neighbours keep their bytes.
#[test]
fn r025_a_failed_page_is_noted_and_replaced() {
    catch_memory_failures().expect("a handler");
    for backing in [Backing::Anonymous, Backing::AnonymousSmall, Backing::Memfd] {
        let (mapping, failed) = watched(backing);
        (0..LEN).step_by(4096).for_each(|offset| set(&mapping, offset + 9, 7));
        mapping.inject(5 * 4096 + 100, Injection::ActionRequired).expect("the signal is sent");
        assert_eq!(failed.iter().collect::<Vec<_>>(), [5], "{backing:?}");
        let zeros: Vec<_> =
            (0..LEN / 4096).filter(|page| get(&mapping, page * 4096 + 9) == 0).collect();
        assert_eq!(zeros, [5], "{backing:?}: only the failed page is fresh");
        set(&mapping, 5 * 4096, 3);
        assert_eq!(get(&mapping, 5 * 4096), 3, "{backing:?}: it can be used");
    }
}

/// The early signal changes no bytes; the OS does that later.
#[test]
fn r025_an_early_notice_leaves_the_page_alone() {
    catch_memory_failures().expect("a handler");
    let (mapping, failed) = watched(Backing::Anonymous);
    set(&mapping, 4096, 7);
    mapping.inject(4096, Injection::ActionOptional).expect("the signal is sent");
    assert!(failed.contains(1) && get(&mapping, 4096) == 7);
}

/// Short-lived mappings reuse the same nodes, and a failure is noted in the current mapping.
#[test]
fn a_dropped_mapping_is_not_watched() {
    catch_memory_failures().expect("a handler");
    let (kept, kept_failed) = watched(Backing::Anonymous);
    for _ in 0..100 {
        let (mapping, failed) = watched(Backing::Anonymous);
        mapping.inject(0, Injection::ActionRequired).expect("the signal is sent");
        assert_eq!(failed.count(), 1);
    }
    assert_eq!(kept_failed.count(), 0);
    drop(kept);
}

/// The environment variable that marks the child process of the test below and says whether to
/// install the handler.
const CHILD: &str = "MEMZIP_TEST_FAILURE_ELSEWHERE";

/// Failed memory outside watched mappings ends the process by SIGBUS, with this handler and without
/// it.
#[test]
fn a_failure_elsewhere_ends_the_process_as_before() {
    use std::os::unix::process::ExitStatusExt;
    if let Some(handler) = std::env::var_os(CHILD) {
        meet_failure_elsewhere(handler == "with");
    }
    let child = |handler: &str| {
        let name = "memory_failure::tests::a_failure_elsewhere_ends_the_process_as_before";
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        let output = command.args(["--exact", name]).env(CHILD, handler).output();
        output.expect("it runs").status.signal()
    };
    assert_eq!(child("without"), Some(libc::SIGBUS));
    assert_eq!(child("with"), Some(libc::SIGBUS));
}

fn meet_failure_elsewhere(with_handler: bool) -> ! {
    if with_handler {
        catch_memory_failures().expect("a handler");
    }
    let mapping = Mapping::reserve(LEN, Backing::Anonymous).expect("room");
    // Twice: the Rust runtime's handler resets the action at the first signal.
    for _ in 0..2 {
        inject::signal(byte(&mapping, 0).cast(), libc::BUS_MCEERR_AR).expect("the signal is sent");
    }
    std::process::exit(0)
}

/// The environment variable that tells the child the code of its signals.
const CODE: &str = "MEMZIP_TEST_SIGBUS_CODE";
const SURVIVED: &str = "both failures were handled";

/// an asynchronous signal leaves the handler in place, although the Rust runtime's own
/// resets the action. The second forwarded signal ends the process, as without this handler.
#[test]
fn r025_a_sent_signal_does_not_disarm_the_handler() {
    use std::os::unix::process::ExitStatusExt;
    if let Ok(code) = std::env::var(CODE) {
        forward_between_failures(code.parse().expect("a number"));
    }
    for code in [libc::BUS_MCEERR_AO, libc::SI_USER, libc::SI_TKILL] {
        let name = "memory_failure::tests::r025_a_sent_signal_does_not_disarm_the_handler";
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--nocapture", "--exact", name]).env(CODE, code.to_string());
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(SURVIVED), "code {code}: {said}");
        assert_eq!(output.status.signal(), Some(libc::SIGBUS), "code {code}");
    }
}

/// Runs the child of the test above.
fn forward_between_failures(code: i32) -> ! {
    catch_memory_failures().expect("a handler");
    let (mapping, failed) = watched(Backing::Anonymous);
    let elsewhere = Mapping::reserve(LEN, Backing::Anonymous).expect("room");
    let forward = || inject::signal(byte(&elsewhere, 0).cast(), code).expect("the signal is sent");
    forward();
    mapping.inject(4096, Injection::ActionRequired).expect("the signal is sent");
    catch_memory_failures().expect("a handler");
    mapping.inject(8192, Injection::ActionRequired).expect("the signal is sent");
    assert_eq!(failed.iter().collect::<Vec<_>>(), [1, 2]);
    println!("{SURVIVED}");
    forward();
    std::process::exit(0)
}

/// Returns the `VmFlags` of each area of the mapping, from `/proc/self/smaps`.
fn area_flags(mapping: &Mapping) -> Vec<String> {
    let (start, mut is_ours) = (mapping.base().as_ptr().addr(), false);
    let mut flags = Vec::new();
    for line in std::fs::read_to_string("/proc/self/smaps").unwrap_or_default().lines() {
        let area = line.split(' ').next().and_then(|range| range.split_once('-'));
        let address = |hex| usize::from_str_radix(hex, 16).ok();
        if let Some((first, end)) = area.and_then(|(first, end)| address(first).zip(address(end))) {
            is_ours = first < start + LEN && start < end;
        }
        flags.extend(
            line.strip_prefix("VmFlags:").filter(|_| is_ours).map(|flags| format!("{flags} ")),
        );
    }
    flags
}

/// A page that replaces a locked one is in no core dump and in no child either.
#[test]
fn a_page_that_replaces_a_locked_one_is_private() {
    catch_memory_failures().expect("a handler");
    let (mapping, failed) = watched(Backing::Anonymous);
    let is_private = |flags: &String| flags.contains(" dd ") && flags.contains(" dc ");
    // SAFETY: INV-MAP-1: a page inside the mapping.
    let locked = unsafe { rustix::mm::mlock(byte(&mapping, 4096).cast(), 4096) };
    if locked.is_err() || !area_flags(&mapping).iter().any(is_private) {
        eprintln!("not tested: this host locks no memory or reports no flags");
        return;
    }
    set(&mapping, 4096, 7);
    mapping.inject(4096, Injection::ActionRequired).expect("the signal is sent");
    assert!(failed.contains(1) && get(&mapping, 4096) == 0);
    let flags = area_flags(&mapping);
    assert!(flags.iter().all(is_private), "{flags:?}");
}

/// The ioctl requests of a `userfaultfd` descriptor.
mod request {
    /// UFFDIO_API: a version and features in, features and supported requests out.
    pub(crate) const API: u64 = 0xC018_AA3F;
    /// UFFDIO_REGISTER: a range and the events to report.
    pub(crate) const REGISTER: u64 = 0xC020_AA00;
    /// UFFDIO_POISON: a range whose pages are marked as failed.
    pub(crate) const POISON: u64 = 0xC020_AA08;
}

/// Marks an untouched page as failed in the page table. A kernel without CONFIG_MEMORY_FAILURE can
/// do that, too (since 6.6).
fn mark(mapping: &Mapping, offset: usize) -> Result<(), String> {
    use std::os::fd::AsRawFd;
    // SAFETY: the call returns a file and changes no memory.
    let file = unsafe { rustix::mm::userfaultfd(rustix::mm::UserfaultfdFlags::CLOEXEC) };
    let file = file.map_err(|errno| format!("userfaultfd: {errno}"))?;
    let page = [byte(mapping, offset).expose_provenance() as u64, 4096];
    let requests = [
        ("features", request::API, [0xAA, 1 << 14 | 1 << 5, 0, 0]),
        ("range", request::REGISTER, [page[0], page[1], 1, 0]),
        ("mark", request::POISON, [page[0], page[1], 0, 0]),
    ];
    for (what, request, mut words) in requests {
        // SAFETY: INV-MAP-1: each request reads and writes at most these four words, and concerns a
        // page of our own.
        if unsafe { libc::ioctl(file.as_raw_fd(), request, words.as_mut_ptr()) } != 0 {
            return Err(format!("userfaultfd, {what}: {}", std::io::Error::last_os_error()));
        }
    }
    Ok(())
}

/// repairing a page also removes the poison marker from the page table, with a memory file,
/// too. Otherwise the access would fault on it for ever.
#[test]
fn r025_a_marked_page_can_be_used_again() {
    use std::os::unix::fs::FileExt;
    let memory = std::fs::File::open("/proc/self/mem").expect("our own memory");
    for backing in [Backing::Anonymous, Backing::AnonymousSmall, Backing::Memfd] {
        let (mapping, failed) = watched(backing);
        let address = byte(&mapping, 3 * 4096).expose_provenance();
        // Reading through the file returns an error instead of raising a signal.
        let read = || memory.read_exact_at(&mut [0], address as u64);
        match mark(&mapping, 3 * 4096) {
            Ok(()) => {}
            Err(why) => return println!("SKIPPED: pages cannot be marked: {why}"),
        }
        assert!(read().is_err(), "{backing:?}: the page is not marked");
        assert!(registry::handle(address, 4096, Notice::ActionRequired), "{backing:?}");
        assert_eq!(failed.iter().collect::<Vec<_>>(), [3], "{backing:?}");
        read().unwrap_or_else(|error| panic!("{backing:?}: the mark is still there: {error}"));
        set(&mapping, 3 * 4096, 7);
        assert_eq!(get(&mapping, 3 * 4096), 7, "{backing:?}");
    }
}
