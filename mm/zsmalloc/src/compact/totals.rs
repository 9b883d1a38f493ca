//! What all compactions of a pool came to.

use std::time::Duration;

use sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Compaction;

/// All compactions of a pool so far, whoever called them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionTotals {
    /// Compactions that have ended. A slice of the background thread is one.
    pub runs: u64,
    /// Objects that got a new place.
    pub objects_moved: u64,
    /// Payload bytes copied.
    pub bytes_moved: u64,
    /// Frames that went back to the zone.
    pub frames_freed: u64,
    /// Zspages that ended.
    pub zspages_freed: u64,
    /// Zspages passed over.
    pub skipped: u64,
    /// Time the callers spent, by the clock on the wall.
    pub time: Duration,
}

/// The same, while it grows. Relaxed throughout: statistics.
#[derive(Debug, Default)]
pub(crate) struct CompactionCounters {
    runs: AtomicU64,
    objects_moved: AtomicU64,
    bytes_moved: AtomicU64,
    frames_freed: AtomicU64,
    zspages_freed: AtomicU64,
    skipped: AtomicU64,
    nanos: AtomicU64,
}

impl CompactionCounters {
    pub(crate) fn record(&self, report: &Compaction, time: Duration) {
        self.runs.fetch_add(1, Relaxed);
        self.objects_moved.fetch_add(report.objects_moved, Relaxed);
        self.bytes_moved.fetch_add(report.bytes_moved, Relaxed);
        self.frames_freed.fetch_add(report.frames_freed, Relaxed);
        self.zspages_freed.fetch_add(report.zspages_freed, Relaxed);
        self.skipped.fetch_add(report.skipped, Relaxed);
        // 584 years fit.
        self.nanos.fetch_add(time.as_nanos() as u64, Relaxed);
    }

    pub(crate) fn read(&self) -> CompactionTotals {
        CompactionTotals {
            runs: self.runs.load(Relaxed),
            objects_moved: self.objects_moved.load(Relaxed),
            bytes_moved: self.bytes_moved.load(Relaxed),
            frames_freed: self.frames_freed.load(Relaxed),
            zspages_freed: self.zspages_freed.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
            time: Duration::from_nanos(self.nanos.load(Relaxed)),
        }
    }
}
