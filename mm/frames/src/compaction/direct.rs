//! Direct compaction: a request for a block waits while one is made.
//!
//! The kernel compacts the zone until a suitable block happens to be free, and captures it if it
//! can. Here the range is chosen first: the one with the fewest frames to move and none that
//! cannot move. Then only that range is captured, so no other allocation can take it.

use std::time::Duration;

use super::CompactOutcome;
use super::candidates::Candidates;
use super::defer::DeferDecision;
use crate::budget::{Budget, Deadline};
use crate::capture::{CaptureError, ContigCapture};
use crate::events::add;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::migrate::MigrateMode;
use crate::pageblock::CommitState;
use crate::state::Kind;
use crate::units::{BlockIndex, FrameCount, MigrateType, Order, Pfn};
use crate::watermarks::Watermarks;
use crate::zone::Zone;

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

impl Zone {
    /// Makes a block of this order and takes it.
    pub(crate) fn compact_direct(
        &self,
        order: Order,
        migrate_type: MigrateType,
    ) -> Result<Pfn, CompactOutcome> {
        // Skip or defer the request when an attempt is unlikely to succeed.
        if !self.is_suitable(order) {
            return Err(CompactOutcome::Skipped);
        }
        let decision = self.deferrals.lock().decide(order);
        match decision {
            DeferDecision::Defer => {
                add(&self.events.compact_deferred, 1);
                return Err(CompactOutcome::Deferred);
            }
            DeferDecision::TryAfresh => self.reset_skip_hints(),
            DeferDecision::Try => {}
        }
        let deadline = Budget::within(DIRECT_COMPACT_TIMEOUT).start();
        // Count the stall, then try. The result decides about deferral.
        add(&self.events.compact_stall, 1);
        self.drain_lists_above(0);
        let result = self.capture_block(order, migrate_type, deadline);
        match result {
            Ok(first) => {
                add(&self.events.compact_success, 1);
                self.deferrals.lock().succeeded(order);
                self.set_block_type(first, order, migrate_type);
            }
            Err(_) => {
                add(&self.events.compact_fail, 1);
                self.deferrals.lock().failed(order);
            }
        }
        result
    }

    /// Returns whether enough frames are free to expect a block of this order: the min watermark,
    /// the block, and as many again to move content to.
    ///
    /// Reserved frames count as free here: content may move there, since a frame in flight counts
    /// against no limit. The capture itself refuses a block that the reservations leave no room
    /// for.
    pub(crate) fn is_suitable(&self, order: Order) -> bool {
        let Some(buddy) = self.buddy.lock_unpoisoned() else { return false };
        let usable = self.usable(buddy.frame_limit().map(FrameCount));
        usable.0.saturating_sub(buddy.charged)
            >= Watermarks::of(usable).min.0 + 2 * u64::from(order.frames())
    }

    /// Captures the range with the fewest frames to move, round after round of candidates.
    pub(crate) fn capture_block(
        &self,
        order: Order,
        migrate_type: MigrateType,
        deadline: Deadline,
    ) -> Result<Pfn, CompactOutcome> {
        let mut candidates = Candidates::new(self, order, migrate_type);
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
                let costs = self.range_costs(block, order);
                if costs.iter().all(Option::is_none) {
                    self.set_skip_hint(block);
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
                match self.compact_range(first, order, deadline) {
                    CaptureOutcome::Captured(first) => return Ok(first),
                    CaptureOutcome::NothingMoved if order >= Order::PAGEBLOCK => {
                        self.set_skip_hint(first.block())
                    }
                    CaptureOutcome::NothingMoved | CaptureOutcome::PartlyMoved => {}
                    CaptureOutcome::GiveUp(outcome) => return Err(outcome),
                }
            }
        }
    }

    fn compact_range(&self, first: Pfn, order: Order, deadline: Deadline) -> CaptureOutcome {
        if order > Order::PAGEBLOCK {
            return self.compact_pair(first, order, deadline);
        }
        self.compact_committed_range(first, order, deadline)
    }

    /// Captures a pair of pageblocks. Commits a half without memory, and releases it again if the
    /// capture fails.
    pub(super) fn compact_pair(
        &self,
        first: Pfn,
        order: Order,
        deadline: Deadline,
    ) -> CaptureOutcome {
        let mut uncommitted = Vec::new();
        for half in [first.block(), BlockIndex(first.block().0 + 1)] {
            let Some(mut buddy) = self.buddy.lock_unpoisoned() else {
                return CaptureOutcome::GiveUp(CompactOutcome::Skipped);
            };
            // At most the pageblock above the high-water mark: its other half is in use.
            buddy.bring_online(&self.tables, half.0 + 1);
            let has_memory = self.tables.blocks.state(half).commit_state == CommitState::Committed;
            let present = buddy.ensure_committed(&self.tables, half);
            drop(buddy);
            if present.is_err() {
                uncommitted.into_iter().for_each(|half| self.release_if_idle(half));
                return CaptureOutcome::NothingMoved;
            }
            uncommitted.extend((!has_memory).then_some(half));
        }
        let attempt = self.compact_committed_range(first, order, deadline);
        if !matches!(attempt, CaptureOutcome::Captured(_)) {
            uncommitted.into_iter().for_each(|half| self.release_if_idle(half));
        }
        attempt
    }

    /// Captures a range whose pageblocks are committed.
    fn compact_committed_range(
        &self,
        first: Pfn,
        order: Order,
        deadline: Deadline,
    ) -> CaptureOutcome {
        let mut capture = match ContigCapture::begin(self, first, order.frames()) {
            Ok(capture) => capture,
            Err(_) => return CaptureOutcome::GiveUp(CompactOutcome::Skipped),
        };
        let result = capture.acquire(MigrateMode::SyncLight, deadline);
        let moved = capture.moved();
        match result {
            Ok(()) => capture
                .into_block(order)
                .map_or(CaptureOutcome::PartlyMoved, CaptureOutcome::Captured),
            Err(CaptureError::OutOfTime) => CaptureOutcome::GiveUp(CompactOutcome::OutOfTime),
            Err(_) if moved > 0 => CaptureOutcome::PartlyMoved,
            Err(_) => CaptureOutcome::NothingMoved,
        }
    }

    /// Returns, for each range of this order in a pageblock or a pair of them, how many frames
    /// have to move; `None` where a frame cannot.
    fn range_costs(&self, block: BlockIndex, order: Order) -> Vec<Option<u32>> {
        if order <= Order::PAGEBLOCK {
            return self.costs(block, order);
        }
        let halves =
            [block, BlockIndex(block.0 + 1)].map(|half| self.costs(half, Order::PAGEBLOCK)[0]);
        vec![halves.into_iter().sum()]
    }

    /// Returns the same for orders up to that of a pageblock.
    pub(crate) fn costs(&self, block: BlockIndex, order: Order) -> Vec<Option<u32>> {
        // A pageblock that is isolated or being released cannot be captured.
        let mut costs = vec![Some(0); (PAGEBLOCK_FRAMES >> order.get()) as usize];
        let block_state = self.tables.blocks.state(block);
        if block_state.isolated || block_state.commit_state == CommitState::Releasing {
            costs.fill(None);
        }
        let mut offset =
            if block_state.commit_state == CommitState::Committed { 0 } else { PAGEBLOCK_FRAMES };
        while offset < PAGEBLOCK_FRAMES {
            let pfn = block.first().plus(offset);
            let state = self.tables.frames.state(pfn);
            let whole = state.order().unwrap_or(Order::SINGLE);
            let cost = match state.kind() {
                Some(Kind::Free) => Some(0),
                // The upper half of a free pair.
                _ if self.tables.blocks.is_free(pfn) => Some(0),
                Some(Kind::Cached) => Some(1),
                Some(Kind::Used)
                    if whole == Order::SINGLE && self.can_move(state) && !state.is_locked() =>
                {
                    Some(1)
                }
                _ => None,
            };
            // Add the cost to every range that the frame or block overlaps.
            let end = (offset + whole.frames()).min(PAGEBLOCK_FRAMES);
            for range in
                &mut costs[(offset >> order.get()) as usize..=((end - 1) >> order.get()) as usize]
            {
                *range = range.zip(cost).map(|(sum, cost)| sum + cost);
            }
            offset = end;
        }
        costs
    }

    /// Sets the migrate type of the pageblocks of a captured block.
    fn set_block_type(&self, first: Pfn, order: Order, migrate_type: MigrateType) {
        if order < Order::PAGEBLOCK {
            return;
        }
        let Some(mut buddy) = self.buddy.lock_unpoisoned() else { return };
        for block in
            (0..order.frames() / PAGEBLOCK_FRAMES).map(|half| BlockIndex(first.block().0 + half))
        {
            buddy.set_type(&self.tables, block, migrate_type);
        }
    }

    pub(super) fn set_skip_hint(&self, block: BlockIndex) {
        let _zone_lock = self.buddy.lock();
        self.tables.skip.insert(block);
    }

    /// Clears all skip hints. Holds the zone lock in short turns.
    pub(super) fn reset_skip_hints(&self) {
        let forget_some = || {
            let _zone_lock = self.buddy.lock();
            self.tables.skip.remove_lowest()
        };
        while forget_some() {}
    }
}
