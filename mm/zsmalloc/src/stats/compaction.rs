//! Reports of compactions, and their totals.

use std::time::Duration;

use sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Outcome of a compaction; the worse is the larger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CompactionOutcome {
    /// Nothing is left to gain, apart from skipped zspages.
    #[default]
    Done,
    /// The budget was used up.
    OutOfTime,
    /// Other threads are compacting some of the classes. All other classes are done.
    AlreadyRunning,
}

/// Report of one compaction. It counts only the caller's own work; compactions on other threads
/// have their own reports (B13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Compaction {
    /// Objects moved.
    pub objects_moved: u64,
    /// Payload bytes copied.
    pub bytes_moved: u64,
    /// Frames freed. A frame that a reader still holds is freed when the reader leaves, and not
    /// counted (L-10).
    pub frames_freed: u64,
    /// Zspages freed.
    pub zspages_freed: u64,
    /// Zspages skipped because they were busy or damaged, or because no frame was free for their
    /// objects.
    pub skipped: u64,
    /// Outcome of the compaction. Serialized without it.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub outcome: CompactionOutcome,
}

/// Totals of all compactions of a pool, by all callers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct CompactionTotals {
    /// Finished compactions; a slice of the background thread is one.
    pub runs: u64,
    /// Objects moved.
    pub objects_moved: u64,
    /// Payload bytes copied.
    pub bytes_moved: u64,
    /// Frames freed.
    pub frames_freed: u64,
    /// Zspages freed.
    pub zspages_freed: u64,
    /// Zspages skipped.
    pub skipped: u64,
    /// Wall-clock time of the callers.
    #[cfg_attr(feature = "serde", serde(rename = "time_us", with = "micros"))]
    pub time: Duration,
}

/// Serializes a duration as whole microseconds.
#[cfg(feature = "serde")]
pub(super) mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_micros)
    }
}

/// The counters behind [`CompactionTotals`]. Relaxed throughout: statistics.
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
    /// Adds a finished compaction.
    pub(crate) fn record(&self, report: &Compaction, time: Duration) {
        self.runs.fetch_add(1, Relaxed);
        self.objects_moved.fetch_add(report.objects_moved, Relaxed);
        self.bytes_moved.fetch_add(report.bytes_moved, Relaxed);
        self.frames_freed.fetch_add(report.frames_freed, Relaxed);
        self.zspages_freed.fetch_add(report.zspages_freed, Relaxed);
        self.skipped.fetch_add(report.skipped, Relaxed);
        // A u64 holds 584 years.
        self.nanos.fetch_add(time.as_nanos() as u64, Relaxed);
    }

    /// Returns the totals.
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
