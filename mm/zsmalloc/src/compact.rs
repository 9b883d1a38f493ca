//! Object compaction: moves objects from the emptiest zspages into the fullest, to free frames.
//!
//! A thread compacts one class at a time and moves a few objects per hold of its lock. The source
//! zspage is held shared: its readers are not disturbed, and keep a moved object's old bytes. The
//! destination is held exclusively while objects are copied in. A busy or damaged zspage is
//! skipped without waiting (KERNEL 1.4 ends the whole class there).
//!
//! The gain is counted in frames ([`ClassState::freeable`][freeable]), not in zspages. A class is
//! done when it holds no more frames than its objects need. So nothing is moved without gain
//! and a second run in a row moves nothing (S-47).
//!
//! Several threads may compact one pool. A thread skips a class that another thread is compacting
//! and tries it again at the end.
//!
//! [freeable]: crate::class_state::ClassState::freeable

mod gain;
mod object;
mod class;
mod pack;
mod transfer;
mod run;
mod shrinker;

use std::time::Instant;

use frames::{Budget, Deadline};

use crate::class::SizeClass;
use crate::pool::Pool;
use crate::stats::{Compaction, CompactionOutcome};

use gain::compactable_classes;
pub(crate) use gain::gains_largest_first;
pub(crate) use run::compact_class;

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
        gain::frames_freeable(self)
    }
}

/// Compacts these classes, on the calling thread.
pub(crate) fn compact_classes(
    pool: &Pool,
    classes: impl Iterator<Item = SizeClass>,
    budget: &Budget,
) -> Compaction {
    let start = Instant::now();
    let report = compact_each_class(pool, classes, budget.start());
    pool.totals.record(&report, start.elapsed());
    report
}

/// Compacts these classes, and at the end once more those that another thread was compacting.
fn compact_each_class(
    pool: &Pool,
    classes: impl Iterator<Item = SizeClass>,
    deadline: Deadline,
) -> Compaction {
    // Compact each class, and remember those that another thread is compacting.
    let (mut report, mut left) = (Compaction::default(), Vec::new());
    for class in classes {
        match compact_class(pool, class, deadline, &mut report) {
            CompactionOutcome::Done => {}
            CompactionOutcome::AlreadyRunning => left.push(class),
            outcome @ CompactionOutcome::OutOfTime => return Compaction { outcome, ..report },
        }
    }
    // Try those once more.
    for class in left {
        match compact_class(pool, class, deadline, &mut report) {
            CompactionOutcome::Done => {}
            outcome @ CompactionOutcome::AlreadyRunning => report.outcome = outcome,
            outcome @ CompactionOutcome::OutOfTime => return Compaction { outcome, ..report },
        }
    }
    report
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
