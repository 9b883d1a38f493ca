//! Object compaction: moves objects from the emptiest zspages into the fullest, to free frames.
//!
//! A thread compacts one class at a time and moves a few objects per hold of its lock. The source
//! zspage is held shared: its readers are not disturbed, and keep a moved object's old bytes. The
//! destination is held exclusively while objects are copied in. A busy or damaged zspage is
//! skipped without waiting (KERNEL 1.4 ends the whole class there).
//!
//! The gain is counted in frames, not in zspages. A class is done when it holds no more frames
//! than its objects need. So nothing is moved without gain, and a second run in a row
//! moves nothing (S-47).

mod class;
mod object;
mod pack;
mod transfer;

use std::cmp::Reverse;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use frames::{Budget, Deadline, FrameCount, NoLocksHeld, Shrinker};

use crate::class::SizeClass;
use crate::pool::{LockedClass, Pool};
use crate::stats::{Compaction, CompactionOutcome};
use class::ClassCompaction;

/// Maximum time of a shrinker's scan: an allocating thread may wait for it.
const SCAN_TIMEOUT: Duration = Duration::from_millis(20);
/// Maximum zspages skipped before a class ends.
const MAX_SKIPPED_ZSPAGES: usize = 64;

impl Pool {
    /// Compacts objects until nothing is left to gain or the budget is used up, on the calling
    /// thread. Readers, writers and frees continue meanwhile.
    ///
    /// Several threads may call it at once: each compacts the classes that the others do not.
    ///
    /// Locking: one class lock at a time, for a few objects; never waits for a chain.
    pub fn compact(&self, budget: &Budget) -> Compaction {
        compact_classes(self, compactable_classes(self), budget)
    }

    /// Returns the frames that a full compaction could free now if no zspage were busy. Locks one
    /// class at a time.
    #[must_use]
    pub fn frames_freeable(&self) -> u64 {
        gains(self).map(|gain| gain.0).sum()
    }
}

impl Shrinker for Pool {
    /// Returns the frames that a compaction could free.
    fn count(&self) -> FrameCount {
        FrameCount(self.frames_freeable())
    }

    /// Compacts the class with the largest gain first, until enough frames are free. Returns the
    /// frames that this call freed itself, so concurrent compactions do not reduce it.
    fn scan(&self, target: FrameCount, _: &NoLocksHeld) -> FrameCount {
        let (start, deadline) = (Instant::now(), Budget::within(SCAN_TIMEOUT).start());
        let (mut gains, mut report) = (Vec::new(), Compaction::default());
        gains_largest_first(self, &mut gains);
        for (_, class) in gains {
            if report.frames_freed >= target.0
                || compact_class(self, class, deadline, &mut report) == CompactionOutcome::OutOfTime
            {
                break;
            }
        }
        self.totals.lock().add(&report, start.elapsed());
        FrameCount(report.frames_freed)
    }
}

/// Iterates over the classes with several objects to a zspage, longest objects first.
fn compactable_classes(pool: &Pool) -> impl Iterator<Item = SizeClass> {
    pool.classes.iter().rev().filter(|class| !class.is_huge())
}

/// Iterates over these classes and what a compaction of each frees. Locks one class at a time.
fn gains(pool: &Pool) -> impl Iterator<Item = (u64, SizeClass)> {
    compactable_classes(pool).map(|class| (pool.lock(class).freeable(), class))
}

/// Stores the classes with a gain, the largest gain first.
pub(crate) fn gains_largest_first(pool: &Pool, into: &mut Vec<(u64, SizeClass)>) {
    into.clear();
    into.extend(gains(pool).filter(|gain| gain.0 > 0));
    into.sort_unstable_by_key(|gain| Reverse(gain.0));
}

/// Compacts these classes, on the calling thread.
pub(crate) fn compact_classes(
    pool: &Pool,
    classes: impl Iterator<Item = SizeClass>,
    budget: &Budget,
) -> Compaction {
    let start = Instant::now();
    let report = compact_each_class(pool, classes, budget.start());
    pool.totals.lock().add(&report, start.elapsed());
    report
}

/// Compacts these classes, and at the end once more those that another thread was compacting.
fn compact_each_class(
    pool: &Pool,
    classes: impl Iterator<Item = SizeClass>,
    deadline: Deadline,
) -> Compaction {
    let (mut report, mut left) = (Compaction::default(), Vec::new());
    for class in classes {
        match compact_class(pool, class, deadline, &mut report) {
            CompactionOutcome::Done => {}
            CompactionOutcome::AlreadyRunning => left.push(class),
            outcome @ CompactionOutcome::OutOfTime => return Compaction { outcome, ..report },
        }
    }
    for class in left {
        match compact_class(pool, class, deadline, &mut report) {
            CompactionOutcome::Done => {}
            outcome @ CompactionOutcome::AlreadyRunning => report.outcome = outcome,
            outcome @ CompactionOutcome::OutOfTime => return Compaction { outcome, ..report },
        }
    }
    report
}

/// Marks a class as being compacted. The mark is set and cleared under the class lock.
struct CompactingGuard<'p> {
    pool: &'p Pool,
    class: SizeClass,
}

impl Drop for CompactingGuard<'_> {
    fn drop(&mut self) {
        self.pool.lock(self.class).compacting = false;
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
    if std::mem::replace(&mut state.compacting, true) {
        return CompactionOutcome::AlreadyRunning;
    }
    // Other threads may free and allocate as fast as this one moves. No object needs more than
    // two moves: to another zspage, and to the front of that.
    let move_limit = report.objects_moved + 2 * state.counters().objects;
    drop(state);
    let _guard = CompactingGuard { pool, class };
    ClassCompaction {
        pool,
        class,
        deadline,
        report,
        source: None,
        skipped: Vec::with_capacity(MAX_SKIPPED_ZSPAGES),
    }
    .run(move_limit)
}

impl ClassCompaction<'_> {
    /// Runs batches until the class is done or `move_limit` objects were moved in total.
    fn run(&mut self, move_limit: u64) -> CompactionOutcome {
        // Frames freed less attached, both under the class lock: this thread's alone.
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
            self.pool.zspages.chains.release_excess_if_due();
            if let ControlFlow::Break(outcome) = batch {
                break outcome;
            }
            if self.report.objects_moved >= move_limit || self.pool.is_poisoned() {
                break CompactionOutcome::Done;
            }
        };
        self.report.frames_freed += u64::try_from(frames).unwrap_or(0);
        self.report.zspages_freed += zspages;
        outcome
    }

    /// Runs one hold of the class lock: moves and visits a bounded number of objects.
    fn run_batch(&mut self, state: &mut LockedClass<'_>) -> ControlFlow<CompactionOutcome> {
        if state.freeable() == 0 || self.skipped.len() >= MAX_SKIPPED_ZSPAGES {
            return ControlFlow::Break(CompactionOutcome::Done);
        }
        let Some(source) = self.pick_source(state) else {
            return ControlFlow::Break(CompactionOutcome::Done);
        };
        self.source = Some(source);
        self.empty_source(state, source)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
