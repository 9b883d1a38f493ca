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
//! A *pass* goes from the top until the scanners meet. One that runs out of its budget is gone on with by the next compaction for the same kind of goal, so
//! a pass in short slices gets as far as one in a single piece. The free scanner needs no position of its own: the lowest pageblock with a free frame is
//! found in an index. Pageblocks in which nothing could be isolated are marked and passed over, until a whole pass has
//! gained nothing.
//!
//! Not to be confused with *object* compaction, which moves objects between zspages so that frames become free.

mod candidates;
mod defer;
mod direct;
mod free_scanner;
mod migrate_scanner;
mod proactive;

use crate::Budget;
use crate::budget::Deadline;
use crate::events::add;
use crate::freelist::FreeListKind;
use crate::migrate::{Isolated, MigrateMode};
use crate::units::{MigrateType, Order};
use crate::zone::Zone;
use free_scanner::FreeScanner;
pub(crate) use migrate_scanner::ScanPosition;
use migrate_scanner::{MigrateScanner, SkipHints};

pub(crate) use defer::Deferrals;
pub use proactive::{ProactiveCompactor, ProactiveOutcome, Proactiveness};

/// Frames isolated before they are migrated (R-100).
const MAX_BATCH: usize = 32;
/// Frames isolated at once by a compaction with a budget. Every move is the first touch of a frame,
/// where the kernel may have to reclaim memory: a whole batch of those can outlast a short budget.
const MAX_BATCH_WITH_BUDGET: usize = 8;

/// What a compaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactGoal {
    /// Everything that can move down does.
    WholeZone,
    /// It ends as soon as a free block of this order is there for movable or unmovable frames.
    Block(Order),
    /// It ends when at most so much of the free memory is outside of free pageblocks. Units: percent.
    Fragmentation(u8),
}

/// A compaction to be done.
#[derive(Clone, Copy, Debug)]
pub struct CompactRequest {
    /// When it has done enough.
    pub goal: CompactGoal,
    /// How hard it may try.
    pub mode: MigrateMode,
    /// How long it may take. The clock is read for every 8 frames.
    pub budget: Budget,
}

impl Default for CompactRequest {
    /// The whole zone, as long as it takes.
    fn default() -> Self {
        Self {
            goal: CompactGoal::WholeZone,
            mode: MigrateMode::SyncLight,
            budget: Budget::unlimited(),
        }
    }
}

/// How a compaction ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompactOutcome {
    /// The scanners met: nothing is left to move, apart from what was busy.
    #[default]
    Done,
    /// The goal was reached before that.
    Reached,
    /// The budget ran out first.
    OutOfTime,
    /// Another thread is compacting; nothing was done.
    AlreadyRunning,
    /// Too few frames are free for the block that was wanted, or the zone is poisoned; nothing was done.
    Skipped,
    /// The last attempts were in vain; nothing was done.
    Deferred,
    /// Every range the block could be in has something that cannot be moved.
    NoSuitable,
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
    pub outcome: CompactOutcome,
}

impl Zone {
    /// Frame compaction, on demand. Owners and their readers go on meanwhile; a frame in use is passed over, not waited for.
    ///
    /// Locking: one compaction at a time; the zone lock for moments. Call it with no lock of an owner held.
    pub fn compact(&self, request: CompactRequest) -> FrameCompaction {
        let deadline = request.budget.start();
        if self.is_poisoned() {
            return FrameCompaction {
                outcome: CompactOutcome::Skipped,
                ..FrameCompaction::default()
            };
        }
        match request.goal {
            CompactGoal::WholeZone => {}
            goal if self.is_goal_met(goal) => {
                return FrameCompaction {
                    outcome: CompactOutcome::Reached,
                    ..FrameCompaction::default()
                };
            }
            CompactGoal::Block(order) if !self.is_suitable(order) => {
                return FrameCompaction {
                    outcome: CompactOutcome::Skipped,
                    ..FrameCompaction::default()
                };
            }
            _ => {}
        }
        let Some(mut cached) = self.compacting.try_lock() else {
            return FrameCompaction {
                outcome: CompactOutcome::AlreadyRunning,
                ..FrameCompaction::default()
            };
        };
        // Frames in per-CPU lists are nobody's and pin what is compacted for.
        self.drain_lists_above(0);
        let report = self.compact_zone(request, deadline, &mut cached);
        self.drain_lists_above(0);
        self.release_until(deadline);
        let counter = if self.is_goal_met(request.goal) {
            &self.events.compact_success
        } else {
            &self.events.compact_fail
        };
        add(counter, 1);
        report
    }

    fn compact_zone(
        &self,
        request: CompactRequest,
        deadline: Deadline,
        cached: &mut Option<ScanPosition>,
    ) -> FrameCompaction {
        let mut report = FrameCompaction::default();
        let hints = if request.goal == CompactGoal::WholeZone {
            SkipHints::Ignore
        } else {
            SkipHints::Respect
        };
        if hints == SkipHints::Ignore {
            self.reset_skip_hints();
        }
        let from = cached.take().filter(|_| hints == SkipHints::Respect);
        let mut migrate = MigrateScanner::new(self, hints, from);
        let mut free = FreeScanner::new(self);
        let mut batch = Vec::with_capacity(MAX_BATCH);
        let most = if deadline.is_bounded() { MAX_BATCH_WITH_BUDGET } else { MAX_BATCH };
        // The goal can come nearer only where something moved, so a pageblock in which nothing did costs no lock.
        let mut seen = None;
        report.outcome = loop {
            if deadline.has_passed() {
                break CompactOutcome::OutOfTime;
            }
            let looked_at = seen.replace(report.frames_moved);
            if looked_at != seen
                && request.goal != CompactGoal::WholeZone
                && self.is_goal_met(request.goal)
            {
                break CompactOutcome::Reached;
            }
            if !migrate.isolate(&mut batch, most) {
                break CompactOutcome::Done;
            }
            if batch.is_empty() {
                continue;
            }
            free.limit(migrate.block());
            if !self.migrate_batch(&mut batch, &mut free, request.mode, &mut report) {
                break CompactOutcome::Done;
            }
        };
        if report.outcome == CompactOutcome::OutOfTime {
            *cached = Some(migrate.position());
        }
        report.scanned = migrate.scanned();
        add(&self.events.migrate_scanned, report.scanned);
        report
    }

    /// `false` when the scanners met.
    fn migrate_batch<'z>(
        &'z self,
        batch: &mut Vec<Isolated<'z>>,
        free: &mut FreeScanner<'z>,
        mode: MigrateMode,
        report: &mut FrameCompaction,
    ) -> bool {
        add(&self.events.compact_isolated, batch.len() as u64);
        let done = self.migrate_pages(batch, free, mode);
        free.flush();
        report.frames_moved += done.migrated;
        report.frames_busy += done.failed;
        if !done.out_of_frames {
            report.frames_busy += done.again;
        }
        batch.clear();
        !done.out_of_frames
    }

    /// Whether a block as wanted is free.
    pub(crate) fn is_goal_met(&self, goal: CompactGoal) -> bool {
        let order = match goal {
            CompactGoal::WholeZone => return true,
            CompactGoal::Fragmentation(percent) => return self.is_defragmented(percent),
            CompactGoal::Block(order) => order,
        };
        let buddy = self.buddy.lock();
        // What is set aside serves no blocks.
        let kinds = || {
            MigrateType::ALL
                .into_iter()
                .filter(|&kind| kind != MigrateType::Cma || buddy.region.is_empty())
        };
        let lists =
            |order| kinds().any(|kind| buddy.lists.blocks(FreeListKind::Type(kind), order) > 0);
        // What is on no list is whole pageblocks without memory.
        let beside = || match order {
            Order::MAX => buddy.lowest_pair(&self.tables).is_some(),
            _ => buddy.has_uncommitted_block(&self.tables),
        };
        order.and_larger().any(lists) || beside()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
