//! The loop of a class's compaction: batch after batch, until its end.

use frames::Deadline;

use super::class::{BatchOutcome, ClassCompaction};
use crate::class::SizeClass;
use crate::pool::{LockedClass, Pool};
use crate::stats::{Compaction, CompactionOutcome};

/// Maximum zspages skipped before a class ends.
const MAX_SKIPPED_ZSPAGES: usize = 64;

/// Marks a class as being compacted. The mark is set and cleared under the class lock.
struct CompactingGuard<'p> {
    pool: &'p Pool,
    class: SizeClass,
}

impl Drop for CompactingGuard<'_> {
    fn drop(&mut self) {
        self.pool.lock(self.class).end_compaction();
    }
}

/// Compacts one class unless another thread is compacting it.
pub(crate) fn compact_class(
    pool: &Pool,
    class: SizeClass,
    deadline: Deadline,
    report: &mut Compaction,
) -> CompactionOutcome {
    let mut state = pool.lock(class);
    if state.freeable() == 0 || pool.is_poisoned() {
        return CompactionOutcome::Done;
    }
    if !state.begin_compaction() {
        return CompactionOutcome::AlreadyRunning;
    }
    // Other threads may free and allocate as fast as this one moves. No object needs more than
    // two moves: to another zspage, and to the front of that.
    let move_limit = report.objects_moved + 2 * state.counters().objects;
    drop(state);
    let _guard = CompactingGuard { pool, class };
    ClassCompaction { pool, class, deadline, report, source: None, skipped: Vec::new() }
        .run(move_limit)
}

impl ClassCompaction<'_> {
    /// Runs batches until the class is done or `move_limit` objects were moved in total.
    fn run(&mut self, move_limit: u64) -> CompactionOutcome {
        // Frames freed less frames attached. Both happen under the class lock, so the difference
        // is this thread's alone.
        let (mut frames, mut zspages) = (0, 0);
        let outcome = loop {
            if self.deadline.has_passed() {
                break CompactionOutcome::OutOfTime;
            }
            let mut state = self.pool.lock(self.class);
            let before = state.counters();
            let batch = self.run_batch(&mut state);
            let after = state.counters();
            frames += before.frames.cast_signed() - after.frames.cast_signed();
            zspages += before.zspages.saturating_sub(after.zspages);
            drop(state);
            self.pool.zspages.chains().release_excess_if_due();
            let over = self.report.objects_moved >= move_limit || self.pool.is_poisoned();
            match batch {
                BatchOutcome::OutOfTime => break CompactionOutcome::OutOfTime,
                BatchOutcome::Continue if !over => {}
                BatchOutcome::Continue | BatchOutcome::Finished => break CompactionOutcome::Done,
            }
        };
        self.report.frames_freed += u64::try_from(frames).unwrap_or(0);
        self.report.zspages_freed += zspages;
        outcome
    }

    /// Runs one hold of the class lock: moves and visits a bounded number of objects.
    fn run_batch(&mut self, state: &mut LockedClass<'_>) -> BatchOutcome {
        if state.freeable() == 0 || self.skipped.len() >= MAX_SKIPPED_ZSPAGES {
            return BatchOutcome::Finished;
        }
        let Some(source) = self.pick_source(state) else { return BatchOutcome::Finished };
        self.source = Some(source);
        self.empty_source(state, source)
    }
}
