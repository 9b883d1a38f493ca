//! Direct compaction: a request for a block waits while one is made.
//!
//! The kernel compacts the zone until a suitable block happens to be free, and captures it if it
//! can. Here the range is chosen first: the one with the fewest frames to move and none that
//! cannot move. Then only that range is captured, so no other allocation can take it.

use std::time::Duration;

use super::candidates::Candidates;
use super::capture::{CaptureError, ContigCapture};
use super::costs::range_costs;
use super::request::CompactOutcome;
use super::skip;
use super::suitable::is_suitable;
use crate::buddy::CommitState;
use crate::budget::{Budget, Deadline};
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::units::{BlockIndex, MigrateType, Order, Pfn};
use crate::zone::{DeferDecision, MigrateMode, Zone, add};

/// The longest that a request waits for its compaction.
const DIRECT_COMPACT_TIMEOUT: Duration = Duration::from_millis(50);
/// The most ranges tried in one round.
const MAX_RANGES: usize = 16;

/// The result of an attempt to capture one range.
#[derive(Debug)]
pub(super) enum CaptureOutcome {
    Captured(Pfn),
    /// No frame could be moved.
    NothingMoved,
    /// Some frames were moved, but not all.
    PartlyMoved,
    /// Other ranges would fail as well.
    GiveUp(CompactOutcome),
}

/// Makes a block of this order and takes it.
pub(super) fn compact_direct(
    zone: &Zone,
    order: Order,
    migrate_type: MigrateType,
) -> Result<Pfn, CompactOutcome> {
    // Skip or defer the request when an attempt is unlikely to succeed.
    if !is_suitable(zone, order) {
        return Err(CompactOutcome::Skipped);
    }
    let decision = zone.compaction().deferrals.lock().decide(order);
    match decision {
        DeferDecision::Defer => {
            add(&zone.events().compact_deferred, 1);
            return Err(CompactOutcome::Deferred);
        }
        DeferDecision::TryAfresh => skip::reset(zone),
        DeferDecision::Try => {}
    }
    let deadline = Budget::within(DIRECT_COMPACT_TIMEOUT).start();
    // Count the stall, then try. The result decides about deferral.
    add(&zone.events().compact_stall, 1);
    zone.allocator().drain_lists_above(0);
    let result = capture_block(zone, order, migrate_type, deadline);
    match result {
        Ok(first) => {
            add(&zone.events().compact_success, 1);
            zone.compaction().deferrals.lock().succeeded(order);
            set_block_type(zone, first, order, migrate_type);
        }
        Err(_) => {
            add(&zone.events().compact_fail, 1);
            zone.compaction().deferrals.lock().failed(order);
        }
    }
    result
}

/// Captures the range with the fewest frames to move, round after round of candidates.
pub(crate) fn capture_block(
    zone: &Zone,
    order: Order,
    migrate_type: MigrateType,
    deadline: Deadline,
) -> Result<Pfn, CompactOutcome> {
    let mut candidates = Candidates::new(zone, order, migrate_type);
    loop {
        let round = candidates.next(deadline);
        if round.is_empty() {
            return Err(if deadline.has_passed() {
                CompactOutcome::OutOfTime
            } else {
                CompactOutcome::NoSuitable
            });
        }
        // Rank the ranges of this round by the number of frames to move.
        let mut ranges = Vec::new();
        for &block in round {
            if deadline.has_passed() {
                return Err(CompactOutcome::OutOfTime);
            }
            let costs = range_costs(zone, block, order);
            if costs.iter().all(Option::is_none) {
                skip::set(zone, block);
            }
            let firsts = (0..).map(|at: u32| block.first().plus(at * order.frames()));
            ranges.extend(
                costs.iter().zip(firsts).filter_map(|(cost, first)| Some(((*cost)?, first))),
            );
        }
        ranges.sort_unstable();
        ranges.truncate(MAX_RANGES);
        // Capture the first range that can be cleared.
        for (_, first) in ranges {
            if deadline.has_passed() {
                return Err(CompactOutcome::OutOfTime);
            }
            match compact_range(zone, first, order, deadline) {
                CaptureOutcome::Captured(first) => return Ok(first),
                CaptureOutcome::NothingMoved if order >= Order::PAGEBLOCK => {
                    skip::set(zone, first.block())
                }
                CaptureOutcome::NothingMoved | CaptureOutcome::PartlyMoved => {}
                CaptureOutcome::GiveUp(outcome) => return Err(outcome),
            }
        }
    }
}

fn compact_range(zone: &Zone, first: Pfn, order: Order, deadline: Deadline) -> CaptureOutcome {
    if order > Order::PAGEBLOCK {
        return compact_pair(zone, first, order, deadline);
    }
    compact_committed_range(zone, first, order, deadline)
}

/// Captures a pair of pageblocks. Commits a half without memory, and releases it again if the
/// capture fails.
pub(super) fn compact_pair(
    zone: &Zone,
    first: Pfn,
    order: Order,
    deadline: Deadline,
) -> CaptureOutcome {
    let mut uncommitted = Vec::new();
    for half in [first.block(), BlockIndex(first.block().0 + 1)] {
        let done = zone.allocator().with_buddy(|buddy, tables| {
            // At most the pageblock above the high-water mark: its other half is in use.
            buddy.bring_online(tables, half.0 + 1);
            let has_memory = tables.blocks.state(half).commit_state == CommitState::Committed;
            (has_memory, buddy.ensure_committed(tables, half))
        });
        let Some((has_memory, present)) = done else {
            return CaptureOutcome::GiveUp(CompactOutcome::Skipped);
        };
        if present.is_err() {
            uncommitted.into_iter().for_each(|half| zone.allocator().release_if_idle(half));
            return CaptureOutcome::NothingMoved;
        }
        uncommitted.extend((!has_memory).then_some(half));
    }
    let attempt = compact_committed_range(zone, first, order, deadline);
    if !matches!(attempt, CaptureOutcome::Captured(_)) {
        uncommitted.into_iter().for_each(|half| zone.allocator().release_if_idle(half));
    }
    attempt
}

/// Captures a range whose pageblocks are committed.
fn compact_committed_range(
    zone: &Zone,
    first: Pfn,
    order: Order,
    deadline: Deadline,
) -> CaptureOutcome {
    let mut capture = match ContigCapture::begin(zone, first, order.frames()) {
        Ok(capture) => capture,
        Err(_) => return CaptureOutcome::GiveUp(CompactOutcome::Skipped),
    };
    let result = capture.acquire(MigrateMode::SyncLight, deadline);
    let moved = capture.moved();
    match result {
        Ok(()) => {
            capture.into_block(order).map_or(CaptureOutcome::PartlyMoved, CaptureOutcome::Captured)
        }
        Err(CaptureError::OutOfTime) => CaptureOutcome::GiveUp(CompactOutcome::OutOfTime),
        Err(_) if moved > 0 => CaptureOutcome::PartlyMoved,
        Err(_) => CaptureOutcome::NothingMoved,
    }
}

/// Sets the migrate type of the pageblocks of a captured block.
fn set_block_type(zone: &Zone, first: Pfn, order: Order, migrate_type: MigrateType) {
    if order < Order::PAGEBLOCK {
        return;
    }
    let halves = 0..order.frames() / PAGEBLOCK_FRAMES;
    zone.allocator().with_buddy(|buddy, tables| {
        for block in halves.map(|half| BlockIndex(first.block().0 + half)) {
            buddy.set_type(tables, block, migrate_type);
        }
    });
}
