//! Statistics of a pool.

use frames::FRAME_SIZE;

use crate::class::SizeClass;
use crate::pool::{ClassState, Pool};
use crate::{BackgroundStats, CompactionTotals, FULLNESS_GROUPS};

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
    fn of(class: SizeClass, state: &ClassState) -> Self {
        Self {
            class,
            groups: state.lists.map(crate::zspage::ZspageList::len),
            objects_allocated: state.zspages * u64::from(class.objects),
            objects_used: state.used,
            frames_used: state.frames,
            live_bytes: state.live_bytes,
            // A huge zspage is one frame with one object, so compaction cannot free any.
            frames_freeable: if class.is_huge() { 0 } else { state.freeable(class) },
        }
    }
}

impl Pool {
    /// Returns a snapshot; each class is exact in itself. Locks one class at a time.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let mut total = PoolStats {
            zspage_bytes: self.zspages.chains().metadata_bytes() as u64,
            handle_bytes: self.handles.bytes() as u64,
            compaction: self.totals.read(),
            background: *self.background.lock(),
            ..PoolStats::default()
        };
        for class in self.classes.iter() {
            let line = ClassStats::of(class, &self.lock(class));
            let taken = line.objects_used * u64::from(class.size);
            total.objects += line.objects_used;
            total.live_bytes += line.live_bytes;
            total.frames += line.frames_used;
            total.rounding_bytes += taken - line.live_bytes;
            total.hole_bytes += line.frames_used * FRAME_SIZE as u64 - taken;
            total.classes.push(line);
        }
        total
    }

    /// Returns the frames attached to zspages, like the kernel's zs_get_total_pages. One load.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames.get()
    }

    /// Returns the maximum of [`Pool::frames`] since the pool was created, or since
    /// [`Pool::reset_frames_max`].
    #[must_use]
    pub fn frames_max(&self) -> u64 {
        self.frames.peak()
    }

    /// Resets [`Pool::frames_max`] to the current number of frames.
    pub fn reset_frames_max(&self) {
        self.frames.reset();
    }
}
