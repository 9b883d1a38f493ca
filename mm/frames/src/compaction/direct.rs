//! Direct compaction: a request for a block waits while one is made.
//!
//! The kernel compacts the zone until a suitable block happens to be free, and captures it if it
//! can. Here the range is chosen first: the one with the fewest frames to move and none that
//! cannot move. Then only that range is captured, so no other allocation can take it.

use std::time::Duration;

use super::candidates::Candidates;
use super::capture::ContigCapture;
use super::costs::range_costs;
use super::request::{CompactOutcome, ContigError};
use super::skip;
use crate::buddy::{Buddy, CommitState, Tables};
use crate::budget::{Budget, Deadline};
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::units::{BlockIndex, MigrateType, Order, Pfn};
use crate::zone::{DeferDecision, MigrateMode, Watermarks, Zone, add};

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

/// Makes a block of this order and takes it: see [`Zone::compact_direct`].
pub(super) fn compact_direct(
    zone: &Zone,
    order: Order,
    migrate_type: MigrateType,
) -> Result<Pfn, CompactOutcome> {
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
    add(&zone.events().compact_stall, 1);
    zone.allocator().drain_lists_above(0);
    let result = capture_block(zone, order, migrate_type, deadline);
    if let Ok(first) = result {
        add(&zone.events().compact_success, 1);
        zone.compaction().deferrals.lock().succeeded(order);
        set_block_type(zone, first, order, migrate_type);
    } else {
        add(&zone.events().compact_fail, 1);
        zone.compaction().deferrals.lock().failed(order);
    }
    result
}

/// Returns whether enough frames are free to expect a block of this order: the min watermark, the
/// block, and as many again to move content to. Reserved frames count as free, since content may
/// move there. The capture itself refuses a block that the reservations leave no room for.
pub(super) fn is_suitable(zone: &Zone, order: Order) -> bool {
    let free = zone.allocator().with_buddy(|buddy, _| {
        let (usable, _) = zone.allocator().usable_and_free(buddy);
        (usable, usable.0.saturating_sub(buddy.ledger.charged))
    });
    free.is_some_and(|(usable, free)| {
        free >= Watermarks::of(usable).min.0 + 2 * u64::from(order.frames())
    })
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
        let mut ranges = Vec::new();
        for block in round {
            if deadline.has_passed() {
                return Err(CompactOutcome::OutOfTime);
            }
            let costs = range_costs(zone, block, order);
            if costs.is_empty() {
                skip::set(zone, block);
            }
            ranges.extend(costs);
        }
        ranges.sort_unstable();
        ranges.truncate(MAX_RANGES);
        for (_, first) in ranges {
            if deadline.has_passed() {
                return Err(CompactOutcome::OutOfTime);
            }
            let capture = if order > Order::PAGEBLOCK { capture_pair } else { capture_range };
            match capture(zone, first, order, deadline) {
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

/// Captures a pair of pageblocks. Commits a half without memory, and releases it again if the
/// capture fails.
pub(super) fn capture_pair(
    zone: &Zone,
    first: Pfn,
    order: Order,
    deadline: Deadline,
) -> CaptureOutcome {
    let mut committed = Vec::with_capacity(2);
    let mut attempt = CaptureOutcome::NothingMoved;
    if commit_pair(zone, first.block(), &mut committed) {
        attempt = capture_range(zone, first, order, deadline);
    }
    if !matches!(attempt, CaptureOutcome::Captured(_)) {
        committed.into_iter().for_each(|block| zone.allocator().release_if_idle(block));
    }
    attempt
}

/// Commits a pageblock and the next one. Adds those that had no memory to `committed`. Returns
/// false when one can get none.
fn commit_pair(zone: &Zone, first: BlockIndex, committed: &mut Vec<BlockIndex>) -> bool {
    for block in [first, BlockIndex(first.0 + 1)] {
        let commit = |buddy: &mut Buddy, tables: &Tables| {
            // At most the pageblock above the high-water mark: its other half is in use.
            buddy.bring_online(tables, block.0 + 1);
            let had_memory = tables.blocks.state(block).commit_state == CommitState::Committed;
            buddy.ensure_committed(tables, block).map(|_| had_memory)
        };
        match zone.allocator().with_buddy(commit) {
            Some(Ok(false)) => committed.push(block),
            // In a poisoned zone the capture gives up.
            Some(Ok(true)) | None => {}
            Some(Err(_)) => return false,
        }
    }
    true
}

/// Captures a range whose pageblocks are committed.
fn capture_range(zone: &Zone, first: Pfn, order: Order, deadline: Deadline) -> CaptureOutcome {
    let Ok(mut capture) = ContigCapture::begin(zone, first, order.frames()) else {
        return CaptureOutcome::GiveUp(CompactOutcome::Skipped);
    };
    match capture.acquire(MigrateMode::SyncLight, deadline) {
        Ok(()) => {
            capture.into_block(order).map_or(CaptureOutcome::PartlyMoved, CaptureOutcome::Captured)
        }
        Err(ContigError::OutOfTime) => CaptureOutcome::GiveUp(CompactOutcome::OutOfTime),
        Err(_) if capture.moved > 0 => CaptureOutcome::PartlyMoved,
        Err(_) => CaptureOutcome::NothingMoved,
    }
}

/// Sets the migrate type of the pageblocks that a captured block fills.
fn set_block_type(zone: &Zone, first: Pfn, order: Order, migrate_type: MigrateType) {
    let halves = 0..order.frames() / PAGEBLOCK_FRAMES;
    zone.allocator().with_buddy(|buddy, tables| {
        for block in halves.map(|half| BlockIndex(first.block().0 + half)) {
            buddy.set_type(tables, block, migrate_type);
        }
    });
}
