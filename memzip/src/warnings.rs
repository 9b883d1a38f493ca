//! Warnings on standard error of a server: the memory limit is near, or memory has failed.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use frames::MemoryFailureStats;
use parking_lot::Mutex;
use zram::{NearlyFull, Zram};

use crate::output;
use crate::sizes::{grouped, human};

/// Minimum time between two warnings that the limit is near.
const MIN_INTERVAL: Duration = Duration::from_secs(10);
/// Interval at which memory failures are polled.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Prints one line, unless one was printed in the last ten seconds.
///
/// The counter in `memzip stat` counts every call.
pub(crate) fn nearly_full(near: NearlyFull) {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    if is_due(&mut LAST.lock(), Instant::now()) {
        let [needed, limit] = [near.needed, near.limit].map(human);
        // Not eprintln, since this is a connection's thread: eprintln blocks while a pipe is full
        // and panics when the terminal is gone.
        output::warn(&format!(
            "nearly full: {needed} of --mem-limit {limit} are needed; writes will fail at the limit"
        ));
    }
}

fn is_due(last: &mut Option<Instant>, now: Instant) -> bool {
    let is_due = last.is_none_or(|last| now.saturating_duration_since(last) >= MIN_INTERVAL);
    if is_due {
        *last = Some(now);
    }
    is_due
}

/// Catches memory failures from now on and starts a thread that reports them.
///
/// Failed memory then loses the pages stored in it instead of ending the process.
pub(crate) fn catch_memory_failures(disk: &Arc<Zram>) -> Result<()> {
    sys::memory_failure::catch_memory_failures().context("cannot handle SIGBUS")?;
    let disk = Arc::downgrade(disk);
    std::thread::Builder::new()
        .name("memory-failure".to_owned())
        .spawn(move || watch(&disk, POLL_INTERVAL, output::warn))
        .context("cannot start a thread")?;
    Ok(())
}

/// Polls the count of failures until the disk is gone, and reports each change.
fn watch(disk: &Weak<Zram>, interval: Duration, report: impl Fn(&str)) {
    let mut reported = 0;
    while let Some(disk) = disk.upgrade() {
        let reports = disk.zone().failure_reports();
        if reports != reported {
            reported = reports;
            report(&line(disk.zone().memory_failure_stats()));
        }
        drop(disk);
        std::thread::sleep(interval);
    }
}

fn line(stats: MemoryFailureStats) -> String {
    let [total, recovered, delayed] =
        [stats.total, stats.recovered, stats.delayed].map(|frames| grouped(frames.0));
    format!(
        "memory failure: {total} pages of memory have failed, {recovered} of them are out of use and {delayed} still in use; \
         what was stored there is lost, and reads of it are I/O errors"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use block::{BlockDevice, Bytes, Span};
    use frames::Pfn;
    use std::sync::mpsc;
    use sys::memory_failure::{Injection, catch_memory_failures};
    use zram::ZramConfig;

    /// failures between two polls make one line, and the thread ends with the disk.
    #[test]
    fn r025_a_failure_is_reported_once() {
        catch_memory_failures().expect("a handler");
        let disk = Arc::new(Zram::new(ZramConfig::new(Bytes(1 << 20))).expect("a small disk"));
        let text: Vec<u8> = (0..4096_u32).map(|at| (at * at / 7) as u8).collect();
        disk.write(Span::new(0, 4096, disk.size()).expect("inside"), &text).expect("room");
        let zone = disk.zone();
        let used: Vec<_> =
            (0..zone.capacity().0 as u32).map(Pfn).filter(|&pfn| zone.get(pfn).is_some()).collect();
        for &pfn in &used {
            zone.inject_memory_failure(pfn, Injection::ActionRequired).expect("the signal is sent");
        }
        let (lines, received) = mpsc::channel();
        let weak = Arc::downgrade(&disk);
        let thread = std::thread::spawn(move || {
            watch(&weak, Duration::from_millis(1), |line| {
                lines.send(line.to_owned()).expect("the test receives")
            });
        });
        let first = received.recv().expect("a line");
        let expected = format!(
            "memory failure: {0} pages of memory have failed, 0 of them are out of use and {0} ",
            used.len()
        );
        assert!(first.starts_with(&expected), "{first}");
        drop(disk);
        thread.join().expect("no panic");
        assert_eq!(received.iter().count(), 0, "nothing has failed since");
    }

    #[test]
    fn one_line_in_ten_seconds() {
        let start = Instant::now();
        let mut last = None;
        let due = [0, 1, 9, 10, 11, 19, 20, 60]
            .map(|second| is_due(&mut last, start + Duration::from_secs(second)));
        assert_eq!(due, [true, false, false, true, false, false, true, true]);
    }
}
