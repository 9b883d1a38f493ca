//! A compaction of the whole zone, in passes.

use super::fragmentation;
use super::free_scanner::{FreeScanner, MAX_BATCH};
use super::migrate_scanner::{MigrateScanner, SkipHints};
use super::request::{CompactGoal, CompactOutcome, CompactRequest, FrameCompaction};
use super::{skip, suitable::is_suitable};
use crate::buddy::{Buddy, FreeListKind, Tables};
use crate::budget::Deadline;
use crate::migrate::Isolated;
use crate::units::{MigrateType, Order};
use crate::zone::{MigrateMode, ScanPosition, Zone, add};

/// The most frames isolated at once by a compaction with a budget. Every move touches a new frame
/// first, where the kernel may have to reclaim memory: a full batch can outlast a short budget.
const MAX_BATCH_WITH_BUDGET: usize = 8;

/// Compacts the zone: see [`Zone::compact`].
pub(super) fn compact(zone: &Zone, request: CompactRequest) -> FrameCompaction {
    let deadline = request.budget.start();
    // Nothing to do: the zone is poisoned, the goal is met, or too little is free.
    if zone.is_poisoned() {
        return FrameCompaction { outcome: CompactOutcome::Skipped, ..FrameCompaction::default() };
    }
    match request.goal {
        CompactGoal::WholeZone => {}
        goal if is_goal_met(zone, goal) => {
            return FrameCompaction {
                outcome: CompactOutcome::Reached,
                ..FrameCompaction::default()
            };
        }
        CompactGoal::Block(order) if !is_suitable(zone, order) => {
            return FrameCompaction {
                outcome: CompactOutcome::Skipped,
                ..FrameCompaction::default()
            };
        }
        _ => {}
    }
    let Some(mut cached) = zone.compaction().running.try_lock() else {
        return FrameCompaction {
            outcome: CompactOutcome::AlreadyRunning,
            ..FrameCompaction::default()
        };
    };
    // Frames in per-CPU lists have no owner and would keep their pageblocks in use.
    zone.allocator().drain_lists_above(0);
    let report = compact_zone(zone, request, deadline, &mut cached);
    zone.allocator().drain_lists_above(0);
    zone.allocator().release_until(deadline);
    let counter = if is_goal_met(zone, request.goal) {
        &zone.events().compact_success
    } else {
        &zone.events().compact_fail
    };
    add(counter, 1);
    report
}

/// Runs the scanners until they meet, the goal is reached or the deadline has passed.
fn compact_zone(
    zone: &Zone,
    request: CompactRequest,
    deadline: Deadline,
    cached: &mut Option<ScanPosition>,
) -> FrameCompaction {
    let mut report = FrameCompaction::default();
    // A compaction of the whole zone ignores the skip hints and starts at the top.
    let hints =
        if request.goal == CompactGoal::WholeZone { SkipHints::Ignore } else { SkipHints::Respect };
    if hints == SkipHints::Ignore {
        skip::reset(zone);
    }
    let from = cached.take().filter(|_| hints == SkipHints::Respect);
    let mut migrate = MigrateScanner::new(zone, hints, from);
    let mut free = FreeScanner::new(zone);
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
            && is_goal_met(zone, request.goal)
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
        if !migrate_batch(zone, &mut batch, &mut free, request.mode, &mut report) {
            break CompactOutcome::Done;
        }
    };
    // The next slice continues here.
    if report.outcome == CompactOutcome::OutOfTime {
        *cached = Some(migrate.position());
    }
    report.scanned = migrate.scanned();
    add(&zone.events().migrate_scanned, report.scanned);
    report
}

/// Migrates a batch; returns `false` when the scanners met.
fn migrate_batch<'z>(
    zone: &'z Zone,
    batch: &mut Vec<Isolated<'z>>,
    free: &mut FreeScanner<'z>,
    mode: MigrateMode,
    report: &mut FrameCompaction,
) -> bool {
    add(&zone.events().compact_isolated, batch.len() as u64);
    let done = zone.migrate_pages(batch, free, mode);
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
pub(super) fn is_goal_met(zone: &Zone, goal: CompactGoal) -> bool {
    let order = match goal {
        CompactGoal::WholeZone => return true,
        CompactGoal::Fragmentation(percent) => return fragmentation::is_reached(zone, percent),
        CompactGoal::Block(order) => order,
    };
    zone.allocator().read_buddy(|buddy| has_block(zone.tables(), buddy, order))
}

/// Returns whether a block of this order is free for movable or unmovable frames.
fn has_block(tables: &Tables, buddy: &Buddy, order: Order) -> bool {
    // Free frames of the CMA region serve no blocks.
    let kinds = || {
        MigrateType::ALL
            .into_iter()
            .filter(|&kind| kind != MigrateType::Cma || buddy.region.is_empty())
    };
    let lists = |order| kinds().any(|kind| buddy.lists.blocks(FreeListKind::Type(kind), order) > 0);
    // Whole pageblocks without memory are on no list.
    let beside = || match order {
        Order::MAX => buddy.lowest_pair(tables).is_some(),
        _ => buddy.has_uncommitted_block(tables),
    };
    order.and_larger().any(lists) || beside()
}
