//! Statistics of a pool.

mod compaction;
mod background;

use frames::FRAME_SIZE;

use crate::class::SizeClass;
use crate::class_state::ClassState;
use crate::fullness::FULLNESS_GROUPS;
use crate::zspage::ZspageList;

pub use background::{BackgroundState, BackgroundStats};
pub(crate) use compaction::CompactionCounters;
pub use compaction::{Compaction, CompactionOutcome, CompactionTotals};

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
    /// Frames that a full compaction would free now if no zspage were busy: those beyond what the
    /// objects need when packed.
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
