//! Frame compaction: frames move out of high pageblocks into the free frames of low ones, so that whole 2 MiB blocks become free.
//!
//! Freed objects leave free frames everywhere, and one frame in use keeps 2 MiB from going back to the OS. Two scanners walk towards each other (R-100):
//!
//! ```text
//!  pageblock 0                                                     online mark
//!  |########|##.#####|###..###|....                 ...|#....#..|.#......|........|
//!            ^ free scanner: lowest free frame              migrate scanner ^
//!            -->                                                          <--
//! ```
//! The migrate scanner isolates movable frames from the highest pageblock down; the free scanner takes the lowest free frames there are; the work is done
//! when they meet. The kernel's scanners walk the other way round. Ours fill the bottom because the buddy allocator does, and because
//! the highest pageblocks are those that go back to the OS first.
//!
//! Not to be confused with *object* compaction, which moves objects between zspages so that frames become free.

mod free_scanner;
mod migrate_scanner;

use crate::Budget;
use crate::budget::Deadline;
use crate::events::add;
use crate::migrate::{Isolated, Mode};
use crate::units::{MigrateType, Order};
use crate::zone::Zone;
use free_scanner::FreeScanner;
use migrate_scanner::MigrateScanner;

/// Frames isolated before they are migrated (R-100).
const BATCH: usize = 32;

/// What a compaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Everything that can move down does.
    WholeZone,
    /// It ends as soon as a free block of this order is there for movable or unmovable frames.
    Block(Order),
}

/// A compaction to be done.
#[derive(Clone, Copy, Debug)]
pub struct CompactRequest {
    /// When it has done enough.
    pub goal: Goal,
    /// How hard it may try.
    pub mode: Mode,
    /// How long it may take. The clock is read for every batch of 32 frames.
    pub budget: Budget,
}

impl Default for CompactRequest {
    /// The whole zone, as long as it takes.
    fn default() -> Self {
        Self { goal: Goal::WholeZone, mode: Mode::SyncLight, budget: Budget::unlimited() }
    }
}

/// How a compaction ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// The scanners met: nothing is left to move, apart from what was busy.
    #[default]
    Done,
    /// The goal was reached before that.
    Reached,
    /// The budget ran out first.
    OutOfTime,
    /// Another thread is compacting; nothing was done.
    AlreadyRunning,
}

/// What a frame compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCompaction {
    /// Frames that have a new place.
    pub frames_moved: u64,
    /// Frames passed over because their owner was using them.
    pub frames_busy: u64,
    /// Frames the migrate scanner looked at.
    pub scanned: u64,
    /// How it ended.
    pub outcome: Outcome,
}

impl Zone {
    /// Frame compaction, on demand. Owners and their readers go on meanwhile; a frame in use is passed over, not waited for.
    ///
    /// Locking: one compaction at a time; the zone lock for moments. Call it with no lock of an owner held.
    pub fn compact(&self, request: CompactRequest) -> FrameCompaction {
        let Some(_single) = self.compacting.try_lock() else {
            return FrameCompaction { outcome: Outcome::AlreadyRunning, ..FrameCompaction::default() };
        };
        // Frames in per-CPU lists are nobody's and pin what is compacted for.
        self.drain_lists_above(0);
        let report = self.compact_zone(request, request.budget.start());
        self.drain();
        let counter = if self.is_reached(request.goal) { &self.events.success } else { &self.events.fail };
        add(counter, 1);
        report
    }

    fn compact_zone(&self, request: CompactRequest, deadline: Deadline) -> FrameCompaction {
        let mut report = FrameCompaction::default();
        let mut migrate = MigrateScanner::new(self);
        let mut free = FreeScanner::new(self);
        let mut batch = Vec::with_capacity(BATCH);
        report.outcome = loop {
            if deadline.has_passed() {
                break Outcome::OutOfTime;
            }
            if request.goal != Goal::WholeZone && self.is_reached(request.goal) {
                break Outcome::Reached;
            }
            if !migrate.isolate(&mut batch) {
                break Outcome::Done;
            }
            free.limit(migrate.block());
            if !self.migrate_batch(&mut batch, &mut free, request.mode, &mut report) {
                break Outcome::Done;
            }
        };
        report.scanned = migrate.scanned();
        add(&self.events.migrate_scanned, report.scanned);
        report
    }

    /// `false` when the scanners met.
    fn migrate_batch<'z>(
        &'z self,
        batch: &mut Vec<Isolated<'z>>,
        free: &mut FreeScanner<'z>,
        mode: Mode,
        report: &mut FrameCompaction,
    ) -> bool {
        add(&self.events.compact_isolated, batch.len() as u64);
        let done = self.migrate_pages(batch, free, mode);
        report.frames_moved += done.migrated;
        report.frames_busy += done.failed;
        if !done.out_of_frames {
            report.frames_busy += done.again;
        }
        batch.clear();
        !done.out_of_frames
    }

    /// Whether a block as wanted is free.
    pub(crate) fn is_reached(&self, goal: Goal) -> bool {
        let Goal::Block(order) = goal else { return true };
        let buddy = self.buddy.lock();
        let listed = order.and_larger().any(|order| MigrateType::ALL.iter().any(|&t| buddy.lists.blocks(t, order) > 0));
        listed
            || (order <= Order::PAGEBLOCK && self.tables.released.lowest().is_some())
            || buddy.online < self.tables.len
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
