//! Frame compaction: moves frames out of high pageblocks into the free frames of low ones, so
//! that whole 2 MiB blocks become free.
//!
//! Freed objects leave free frames everywhere, and one frame in use keeps a 2 MiB pageblock from
//! being released to the OS. Two scanners move towards each other (R-100):
//!
//! ```text
//!  pageblock 0                                                     online mark
//!  |########|##.#####|###..###|....                 ...|#....#..|.#......|........|
//!            ^ free scanner: lowest free frame              migrate scanner ^
//!            -->                                                          <--
//! ```
//! The migrate scanner isolates movable frames from the highest pageblock down. The free scanner
//! takes the lowest free frames. The pass is complete when they meet. The kernel's scanners run
//! the other way round. Ours fill the bottom because the buddy allocator does, and because the
//! highest pageblocks are released to the OS first.
//!
//! A *pass* goes from the top until the scanners meet. When it runs out of its budget, the next
//! compaction with the same kind of goal continues it, so short slices get as far as a single
//! run. The free scanner needs no position: an index finds the lowest pageblock with a free
//! frame. A pageblock in which nothing could be isolated gets a skip hint; the hints are reset
//! after a whole pass without success.
//!
//! Not to be confused with *object* compaction, which moves objects between zspages so that frames
//! become free.

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

/// The most frames isolated before they are migrated (R-100).
const MAX_BATCH: usize = 32;
/// The most frames isolated at once by a compaction with a budget. Every move touches a new frame
/// first, where the kernel may have to reclaim memory: a full batch can outlast a short budget.
const MAX_BATCH_WITH_BUDGET: usize = 8;

/// When a compaction has done enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactGoal {
    /// Move every frame that can move down.
    WholeZone,
    /// Stop as soon as a block of this order is free for movable or unmovable frames.
    Block(Order),
    /// Stop when at most this share of the free memory is outside of free pageblocks. Units:
    /// percent.
    Fragmentation(u8),
}

/// What a compaction should do.
#[derive(Clone, Copy, Debug)]
pub struct CompactRequest {
    /// When it has done enough.
    pub goal: CompactGoal,
    /// How hard migration may try.
    pub mode: MigrateMode,
    /// How long it may take. It checks the deadline before each batch, at most 8 frames.
    pub budget: Budget,
}

impl Default for CompactRequest {
    /// The whole zone, without a time limit.
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
    /// The scanners met: nothing is left to move, apart from busy frames.
    #[default]
    Done,
    /// It reached the goal before the scanners met.
    Reached,
    /// The budget ran out before the scanners met.
    OutOfTime,
    /// Another thread is compacting; nothing was done.
    AlreadyRunning,
    /// Too few frames are free for the block, or the zone is poisoned; nothing was done.
    Skipped,
    /// The last attempts failed, so this one is deferred; nothing was done.
    Deferred,
    /// Every range that could hold the block has a frame that cannot be moved.
    NoSuitable,
}

/// The result of a frame compaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCompaction {
    /// Frames whose content was moved.
    pub frames_moved: u64,
    /// Frames that their owner was using or refused to move.
    pub frames_busy: u64,
    /// Frames that the migrate scanner looked at.
    pub scanned: u64,
    /// How it ended.
    pub outcome: CompactOutcome,
}

impl Zone {
    /// Compacts frames. Owners and their readers continue meanwhile; a frame in use is skipped,
    /// not waited for.
    ///
    /// Locking: one compaction at a time; takes the zone lock briefly and repeatedly. Call it
    /// with no lock of an owner held.
    pub fn compact(&self, request: CompactRequest) -> FrameCompaction {
        let deadline = request.budget.start();
        // Nothing to do: the zone is poisoned, the goal is met, or too little is free.
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
        // Frames in per-CPU lists have no owner and would keep their pageblocks in use.
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

    /// Runs the scanners until they meet, the goal is reached or the deadline has passed.
    fn compact_zone(
        &self,
        request: CompactRequest,
        deadline: Deadline,
        cached: &mut Option<ScanPosition>,
    ) -> FrameCompaction {
        let mut report = FrameCompaction::default();
        // A compaction of the whole zone ignores the skip hints and starts at the top.
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
        // Only a move can bring the goal nearer, so a pageblock in which nothing moved costs no
        // lock.
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
        // The next slice continues here.
        if report.outcome == CompactOutcome::OutOfTime {
            *cached = Some(migrate.position());
        }
        report.scanned = migrate.scanned();
        add(&self.events.migrate_scanned, report.scanned);
        report
    }

    /// Migrates a batch; returns `false` when the scanners met.
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

    /// Returns whether the goal is met: for [`CompactGoal::Block`], whether such a block is free.
    pub(crate) fn is_goal_met(&self, goal: CompactGoal) -> bool {
        let order = match goal {
            CompactGoal::WholeZone => return true,
            CompactGoal::Fragmentation(percent) => return self.is_defragmented(percent),
            CompactGoal::Block(order) => order,
        };
        let buddy = self.buddy.lock();
        // Free frames of the CMA region serve no blocks.
        let kinds = || {
            MigrateType::ALL
                .into_iter()
                .filter(|&kind| kind != MigrateType::Cma || buddy.region.is_empty())
        };
        let lists =
            |order| kinds().any(|kind| buddy.lists.blocks(FreeListKind::Type(kind), order) > 0);
        // Whole pageblocks without memory are on no list.
        let beside = || match order {
            Order::MAX => buddy.lowest_pair(&self.tables).is_some(),
            _ => buddy.has_uncommitted_block(&self.tables),
        };
        order.and_larger().any(lists) || beside()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
