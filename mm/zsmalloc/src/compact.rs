//! Object compaction: objects move out of the emptiest zspages into the fullest, so that frames become free.
//!
//! One class at a time and thread, a few objects under one hold of its lock. The source is only shared, so its readers are not disturbed and a moved
//! object's old bytes stay for those who look at them; the destination is held exclusively while objects are copied in. A zspage that
//! somebody uses or that is damaged is passed over, not waited for (KERNEL 1.4 ends the whole class there).
//!
//! What tells that there is something to gain is the number of frames ([`ClassState::freeable`]), not of zspages: a class stops as soon as it holds no
//! frame more than its objects need, so nothing is moved without gain, and a second run in a row moves nothing (S-47).
//!
//! Several threads may compact one pool: a class somebody is at is left to him, and come back to at the end.

mod class;
mod pack;
mod shrinker;
mod totals;
mod transfer;

use std::num::NonZeroUsize;
use std::time::Instant;

use sync::Mutex;

use crate::Budget;
use crate::class::SizeClass;
use crate::pool::{ClassState, Pool};
use frames::Deadline;

pub(crate) use totals::CompactionCounters;
pub use totals::CompactionTotals;

/// Threads one compaction uses at most.
const MAX_THREADS: usize = 64;

/// How a compaction ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompactionOutcome {
    /// Nothing is left to gain, apart from zspages that were passed over.
    #[default]
    Done,
    /// The budget ran out first.
    OutOfTime,
    /// Other threads are compacting this pool. What nobody was at was done; the rest was left to them.
    AlreadyRunning,
}

/// What a compaction did itself: what others did at the same time is in their reports (B13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Objects that have a new place.
    pub objects_moved: u64,
    /// Payload bytes copied.
    pub bytes_moved: u64,
    /// Frames that went back to the zone. Those a reader keeps for now are given back, but not counted, when it leaves (L-10).
    pub frames_freed: u64,
    /// Zspages that ended.
    pub zspages_freed: u64,
    /// Zspages passed over because somebody was inside them, they are damaged, or there was no frame for what they hold.
    pub skipped: u64,
    /// How it ended.
    pub outcome: CompactionOutcome,
}

#[cfg(not(any(loom, shuttle)))]
impl Compaction {
    /// Adds what another thread did for the same compaction.
    fn merge(&mut self, other: &Self) {
        self.objects_moved += other.objects_moved;
        self.bytes_moved += other.bytes_moved;
        self.frames_freed += other.frames_freed;
        self.zspages_freed += other.zspages_freed;
        self.skipped += other.skipped;
        self.outcome = match (self.outcome, other.outcome) {
            (CompactionOutcome::OutOfTime, _) | (_, CompactionOutcome::OutOfTime) => {
                CompactionOutcome::OutOfTime
            }
            (CompactionOutcome::AlreadyRunning, _) | (_, CompactionOutcome::AlreadyRunning) => {
                CompactionOutcome::AlreadyRunning
            }
            (CompactionOutcome::Done, CompactionOutcome::Done) => CompactionOutcome::Done,
        };
    }
}

impl ClassState {
    /// Frames the class holds beyond those its objects need when they are packed: what a compaction of it can free.
    ///
    /// Saturating: a formula that can wrap will (B6, L-09).
    pub(crate) fn freeable(&self, class: SizeClass) -> u64 {
        self.frames.saturating_sub(class.frames_for(self.used))
    }
}

impl Pool {
    /// Moves objects together until nothing is left to gain or the budget is spent. Readers, writers and frees go on meanwhile.
    ///
    /// It works on this thread alone; several threads may call it at once, and each does what the others are not at.
    ///
    /// Locking: one class at a time, for a few objects; nothing is waited for.
    pub fn compact(&self, budget: &Budget) -> Compaction {
        let mut classes = self.compactable_classes();
        self.compact_classes(|| classes.next(), budget)
    }

    /// Compacts the classes `next` gives, on this thread.
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

    /// As [`Pool::compact`] on up to `threads` threads, this one among them. Fewer when the OS gives no more.
    ///
    /// Each takes the next class nobody is at, so more threads than classes in use gain nothing.
    pub fn compact_with(&self, budget: &Budget, threads: NonZeroUsize) -> Compaction {
        let (start, deadline) = (Instant::now(), budget.start());
        let classes = Mutex::ranked(sync::Rank::Leaf, self.compactable_classes());
        let next = || classes.lock().next();
        let report = run_parallel(threads.get().min(MAX_THREADS), &|| {
            self.compact_each_class(next, deadline)
        });
        self.totals.record(&report, start.elapsed());
        report
    }

    /// Frames a whole compaction could free now, if nobody were inside any zspage. Locks one class at a time.
    #[must_use]
    pub fn frames_freeable(&self) -> u64 {
        self.compactable_classes().map(|class| self.lock(class).freeable(class)).sum()
    }

    /// The classes there is anything to move in, those of long objects first.
    pub(crate) fn compactable_classes(&self) -> impl Iterator<Item = SizeClass> {
        self.classes.iter().rev().filter(|class| !class.is_huge())
    }

    /// Compacts the classes `next` gives, and at the end once more those somebody else was at.
    fn compact_each_class(
        &self,
        mut next: impl FnMut() -> Option<SizeClass>,
        deadline: Deadline,
    ) -> Compaction {
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

/// Runs `work` on this thread and on others beside it; the sum of what they did.
#[cfg(not(any(loom, shuttle)))]
fn run_parallel(threads: usize, work: &(dyn Fn() -> Compaction + Sync)) -> Compaction {
    std::thread::scope(|scope| {
        let name = || std::thread::Builder::new().name("memzip-compact".into());
        let others: Vec<_> =
            (1..threads).map_while(|_| name().spawn_scoped(scope, work).ok()).collect();
        let mut report = work();
        for other in others {
            match other.join() {
                Ok(part) => report.merge(&part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        report
    })
}

/// A model has no scoped threads; it calls [`Pool::compact`] from threads of its own, which meet in the same way.
#[cfg(any(loom, shuttle))]
fn run_parallel(_threads: usize, work: &(dyn Fn() -> Compaction + Sync)) -> Compaction {
    work()
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
