//! A compaction of the whole zone, in passes.

use super::direct::is_suitable;
use super::free_scanner::{FreeScanner, MAX_BATCH};
use super::migrate_scanner::MigrateScanner;
use super::request::{CompactGoal, CompactOutcome, CompactRequest, FrameCompaction};
use super::{fragmentation, skip};
use crate::buddy::FreeListKind;
use crate::budget::Deadline;
use crate::units::{MigrateType, Order};
use crate::zone::{ScanPosition, Zone, add};

/// The most frames isolated at once by a compaction with a budget. Every move touches a new frame
/// first, where the kernel may have to reclaim memory: a full batch can outlast a short budget.
const MAX_BATCH_WITH_BUDGET: usize = 8;

/// Compacts frames: see [`Zone::compact`].
pub(super) fn compact(zone: &Zone, request: CompactRequest) -> FrameCompaction {
    let deadline = request.budget.start();
    let nothing = |outcome| FrameCompaction { outcome, ..FrameCompaction::default() };
    // Nothing to do: the zone is poisoned, the goal is met, or too little is free.
    if zone.is_poisoned() {
        return nothing(CompactOutcome::Skipped);
    }
    match request.goal {
        CompactGoal::WholeZone => {}
        goal if is_goal_met(zone, goal) => return nothing(CompactOutcome::Reached),
        CompactGoal::Block(order) if !is_suitable(zone, order) => {
            return nothing(CompactOutcome::Skipped);
        }
        _ => {}
    }
    let Some(mut cached) = zone.compaction().running.try_lock() else {
        return nothing(CompactOutcome::AlreadyRunning);
    };
    // Frames in per-CPU lists have no owner and would keep their pageblocks in use.
    zone.allocator().drain_lists_above(0);
    let report = run_scanners(zone, request, deadline, &mut cached);
    zone.allocator().drain_lists_above(0);
    zone.allocator().release_until(deadline);
    let (success, fail) = (&zone.events().compact_success, &zone.events().compact_fail);
    add(if is_goal_met(zone, request.goal) { success } else { fail }, 1);
    report
}

/// Runs the scanners until they meet, the goal is reached or the deadline has passed.
fn run_scanners(
    zone: &Zone,
    request: CompactRequest,
    deadline: Deadline,
    cached: &mut Option<ScanPosition>,
) -> FrameCompaction {
    let mut report = FrameCompaction::default();
    // A compaction of the whole zone ignores the skip hints and starts at the top.
    let is_whole = request.goal == CompactGoal::WholeZone;
    if is_whole {
        skip::reset(zone);
    }
    let from = cached.take().filter(|_| !is_whole);
    let mut migrate = MigrateScanner::new(zone, request.goal, from);
    let mut free = FreeScanner::new(zone);
    let mut batch = Vec::with_capacity(MAX_BATCH);
    let most = if deadline.is_bounded() { MAX_BATCH_WITH_BUDGET } else { MAX_BATCH };
    // Only a move can bring the goal nearer: no look at it after a pageblock without one.
    let mut seen = None;
    report.outcome = loop {
        if deadline.has_passed() {
            break CompactOutcome::OutOfTime;
        }
        let has_moved = seen.replace(report.frames_moved) != Some(report.frames_moved);
        if has_moved && !is_whole && is_goal_met(zone, request.goal) {
            break CompactOutcome::Reached;
        }
        if !migrate.isolate(&mut batch, most) {
            break CompactOutcome::Done;
        }
        if batch.is_empty() {
            continue;
        }
        add(&zone.events().compact_isolated, batch.len() as u64);
        free.end = migrate.at.block;
        let done = zone.migrate_pages(&mut batch, &mut free, request.mode);
        free.flush();
        batch.clear();
        report.frames_moved += done.migrated;
        report.frames_busy += done.failed;
        if done.out_of_frames {
            break CompactOutcome::Done;
        }
        report.frames_busy += done.again;
    };
    if report.outcome == CompactOutcome::OutOfTime {
        *cached = Some(migrate.at);
    }
    report.scanned = migrate.scanned;
    add(&zone.events().compact_migrate_scanned, report.scanned);
    report
}

/// Returns whether the goal is met: for [`CompactGoal::Block`], whether such a block is free for
/// movable or unmovable frames.
pub(super) fn is_goal_met(zone: &Zone, goal: CompactGoal) -> bool {
    let order = match goal {
        CompactGoal::WholeZone => return true,
        CompactGoal::Fragmentation(percent) => return fragmentation::is_reached(zone, percent),
        CompactGoal::Block(order) => order,
    };
    let tables = zone.tables();
    zone.allocator().read_buddy(|buddy| {
        // Free frames of the CMA region serve no blocks.
        let serves = |kind| kind != MigrateType::Cma || tables.region.is_empty();
        let blocks = |kind, order| buddy.lists.blocks(FreeListKind::Type(kind), order);
        let has_any = |kind, order| serves(kind) && blocks(kind, order) > 0;
        let lists = |order| MigrateType::ALL.into_iter().any(|kind| has_any(kind, order));
        // Whole pageblocks without memory are on no list.
        let beside = || match order {
            Order::MAX => buddy.lowest_pair(tables).is_some(),
            _ => buddy.has_uncommitted_block(tables),
        };
        order.and_larger().any(lists) || beside()
    })
}
