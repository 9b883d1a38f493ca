//! Object compaction: moves objects from the emptiest zspages into the fullest, to free frames.
//!
//! A thread compacts one class at a time and moves a few objects per hold of its lock. The source
//! zspage is held shared: its readers are not disturbed, and keep a moved object's old bytes. The
//! destination is held exclusively while objects are copied in. A busy or damaged zspage is
//! skipped without waiting (KERNEL 1.4 ends the whole class there).
//!
//! The gain is counted in frames ([`ClassState::freeable`]), not in zspages. A class is done when
//! it holds no more frames than its objects need. So nothing is moved without gain, and a
//! second run in a row moves nothing (S-47).
//!
//! Several threads may compact one pool. A thread skips a class that another thread is compacting
//! and tries it again at the end.

mod class;
mod pack;
mod shrinker;
mod totals;
mod transfer;

use std::time::Instant;

use crate::Budget;
use crate::class::SizeClass;
use crate::pool::{ClassState, Pool};
use frames::Deadline;

pub(crate) use totals::CompactionCounters;
pub use totals::CompactionTotals;

/// Outcome of a compaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Outcome of the compaction.
    pub outcome: CompactionOutcome,
}

impl ClassState {
    /// Returns the frames that a compaction of the class can free: those beyond what its objects
    /// need when packed.
    ///
    /// Saturates instead of wrapping (B6, L-09).
    pub(crate) fn freeable(&self, class: SizeClass) -> u64 {
        self.frames.saturating_sub(class.frames_for(self.used))
    }
}

impl Pool {
    /// Compacts objects until nothing is left to gain or the budget is used up, on the calling
    /// thread. Readers, writers and frees continue meanwhile.
    ///
    /// Several threads may call it at once: each compacts the classes that the others do not.
    ///
    /// Locking: one class lock at a time, for a few objects; never waits for a chain.
    pub fn compact(&self, budget: &Budget) -> Compaction {
        let mut classes = self.compactable_classes();
        self.compact_classes(|| classes.next(), budget)
    }

    /// Compacts the classes that `next` returns, on the calling thread.
    pub(crate) fn compact_classes(
        &self,
        next: impl FnMut() -> Option<SizeClass>,
        budget: &Budget,
    ) -> Compaction {
        let start = Instant::now();
        let report = self.compact_each_class(next, budget.start());
        self.totals.record(&report, start.elapsed());
        report
    }

    /// Returns the frames that a full compaction could free now if no zspage were busy. Locks one
    /// class at a time.
    #[must_use]
    pub fn frames_freeable(&self) -> u64 {
        self.compactable_classes().map(|class| self.lock(class).freeable(class)).sum()
    }

    /// Iterates over the classes with several objects to a zspage, longest objects first.
    pub(crate) fn compactable_classes(&self) -> impl Iterator<Item = SizeClass> {
        self.classes.iter().rev().filter(|class| !class.is_huge())
    }

    /// Compacts the classes that `next` returns, and at the end once more those that another
    /// thread was compacting.
    fn compact_each_class(
        &self,
        mut next: impl FnMut() -> Option<SizeClass>,
        deadline: Deadline,
    ) -> Compaction {
        // Compact each class, and remember those that another thread is compacting.
        let mut report = Compaction::default();
        let mut left = Vec::new();
        while let Some(class) = next() {
            match self.compact_class(class, deadline, &mut report) {
                CompactionOutcome::Done => {}
                CompactionOutcome::AlreadyRunning => left.push(class),
                CompactionOutcome::OutOfTime => {
                    report.outcome = CompactionOutcome::OutOfTime;
                    return report;
                }
            }
        }
        // Try those once more.
        for class in left {
            let outcome = self.compact_class(class, deadline, &mut report);
            if outcome != CompactionOutcome::Done {
                report.outcome = outcome;
            }
            if outcome == CompactionOutcome::OutOfTime {
                break;
            }
        }
        report
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
