//! Statistics of a pool.

use std::time::Duration;

use frames::FRAME_SIZE;

use crate::class::SizeClass;
use crate::class_state::ClassState;
use crate::zspage::{FULLNESS_GROUPS, ZspageList};

/// Statistics of one class: a line of the classes table (KERNEL 1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassStats {
    /// The class.
    pub class: SizeClass,
    /// Number of zspages in each fullness group: empty, up to 10 %, ... 99 %, full.
    pub groups: [u32; FULLNESS_GROUPS],
    /// Objects that fit in all zspages of the class.
    pub objects_allocated: u64,
    /// Live objects.
    pub objects_used: u64,
    /// Attached frames.
    pub frames_used: u64,
    /// Payload bytes of live objects.
    pub live_bytes: u64,
    /// Frames that a full compaction would free now if no zspage were busy.
    pub frames_freeable: u64,
}

/// Statistics of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Live objects.
    pub objects: u64,
    /// Payload bytes of live objects.
    pub live_bytes: u64,
    /// Frames attached to zspages.
    pub frames: u64,
    /// Bytes lost inside the slots of live objects: headers and rounding up to the class.
    pub rounding_bytes: u64,
    /// Bytes of attached frames outside live objects: free slots and the tails of zspages.
    pub hole_bytes: u64,
    /// Memory of zspage and chain records. Units: bytes.
    pub zspage_bytes: u64,
    /// Memory of the handle table. Units: bytes.
    pub handle_bytes: u64,
    /// Totals of object compaction.
    pub compaction: CompactionTotals,
    /// Statistics of the background thread.
    pub background: BackgroundStats,
    /// Statistics of all classes, smallest first.
    pub classes: Vec<ClassStats>,
}

impl ClassStats {
    /// Returns the statistics of a class whose lock is held.
    pub(crate) fn of(state: &ClassState) -> Self {
        let (class, counters) = (state.class(), state.counters());
        Self {
            class,
            groups: state.lists().map(ZspageList::len),
            objects_allocated: counters.zspages * u64::from(class.objects),
            objects_used: counters.objects,
            frames_used: counters.frames,
            live_bytes: counters.live_bytes,
            frames_freeable: state.freeable(),
        }
    }
}

impl PoolStats {
    /// Adds a class to the totals.
    pub(crate) fn add(&mut self, class: ClassStats) {
        let taken = class.objects_used * u64::from(class.class.size);
        self.objects += class.objects_used;
        self.live_bytes += class.live_bytes;
        self.frames += class.frames_used;
        self.rounding_bytes += taken - class.live_bytes;
        self.hole_bytes += class.frames_used * FRAME_SIZE as u64 - taken;
        self.classes.push(class);
    }
}

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
    /// Zspages skipped: busy or damaged ones, and those for whose objects no frame was free.
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

impl CompactionTotals {
    /// Adds a finished compaction.
    pub(crate) fn add(&mut self, report: &Compaction, time: Duration) {
        self.runs += 1;
        self.objects_moved += report.objects_moved;
        self.bytes_moved += report.bytes_moved;
        self.frames_freed += report.frames_freed;
        self.zspages_freed += report.zspages_freed;
        self.skipped += report.skipped;
        self.time += time;
    }
}

/// Serializes a duration as whole microseconds.
#[cfg(feature = "serde")]
mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_micros)
    }
}

/// State of the background thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackgroundState {
    /// No thread is running.
    #[default]
    Off,
    /// Too few frames are freeable.
    Watching,
    /// It compacts objects, slice by slice.
    Working,
    /// The last slice gained nothing; it waits before it tries again.
    BackingOff,
}

/// Statistics of background compaction. The pool's totals include its objects and frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct BackgroundStats {
    /// Current state. Serialized without it.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub state: BackgroundState,
    /// Number of polls.
    #[cfg_attr(feature = "serde", serde(rename = "looks"))]
    pub polls: u64,
    /// Number of slices.
    pub slices: u64,
    /// Objects moved.
    pub objects_moved: u64,
    /// Frames freed.
    pub frames_freed: u64,
    /// Frames moved by frame compaction.
    pub frames_moved: u64,
    /// Frames returned to the OS, in whole pageblocks.
    pub frames_released: u64,
    /// CPU time of the current thread, or of the last one.
    #[cfg_attr(feature = "serde", serde(rename = "cpu_us", with = "micros"))]
    pub cpu: Duration,
    /// Frames that were freeable at the last poll.
    pub frames_freeable: u64,
    /// Report of the last slice. Serialized without it.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub last: Compaction,
}
