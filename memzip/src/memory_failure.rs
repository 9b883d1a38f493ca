//! The line on standard error that reports memory failures.

use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, Result};
use frames::MemoryFailureStats;
use zram::Zram;

use crate::output;
use crate::sizes::grouped;

/// Interval at which failures are polled and reported.
const INTERVAL: Duration = Duration::from_secs(1);

/// Catches memory failures from now on and starts a thread that reports them.
///
/// Failed memory then loses the pages stored in it instead of ending the process.
pub(crate) fn catch(disk: &Arc<Zram>) -> Result<()> {
    sys::memory_failure::catch_memory_failures().context("cannot handle SIGBUS")?;
    let disk = Arc::downgrade(disk);
    std::thread::Builder::new()
        .name("memory-failure".to_owned())
        .spawn(move || watch(&disk, INTERVAL, output::warn))
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
    format!(
        "memory failure: {} pages of memory have failed, {} of them are out of use and {} still in use; \
         what was stored there is lost, and reads of it are I/O errors",
        grouped(stats.total.0),
        grouped(stats.recovered.0),
        grouped(stats.delayed.0)
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
}
