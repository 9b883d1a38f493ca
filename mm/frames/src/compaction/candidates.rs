//! The pageblocks that direct compaction tries, best first, some at a time.
//!
//! The cost of a pageblock is read from its state without a lock: it is a hint, and a capture
//! checks again. However large the zone is, one pass keeps only a fixed number of the best. When
//! those are used up, another pass finds the next best.

use std::collections::BinaryHeap;

use crate::budget::Deadline;
use crate::units::{BlockIndex, MigrateType, Order};
use crate::zone::Zone;

/// Pageblocks whose ranges are compared in one round.
const ROUND_PAGEBLOCKS: usize = 64;
/// The most pageblocks found by one pass.
const MAX_FOUND: usize = 16 * ROUND_PAGEBLOCKS;
/// Pageblocks scanned between two checks of the deadline.
const DEADLINE_CHECK_INTERVAL: u32 = 1024;

/// Pageblocks that may have a range of an order. First those of the requested type, so that
/// unmovable blocks do not spread over movable pageblocks; then by the most free frames; then the
/// lowest.
#[derive(Debug)]
pub(super) struct Candidates<'z> {
    zone: &'z Zone,
    order: Order,
    migrate_type: MigrateType,
    /// The rest of the last pass, best last.
    found: Vec<BlockIndex>,
    /// The worst candidate of the last pass: all better ones have been tried.
    last: Option<CandidateCost>,
}

/// The cost of a candidate. Less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CandidateCost {
    /// Whether the block would change the type of a pageblock.
    is_other_type: bool,
    frames_in_use: u32,
    block: BlockIndex,
}

impl<'z> Candidates<'z> {
    pub(super) fn new(zone: &'z Zone, order: Order, migrate_type: MigrateType) -> Self {
        Self { zone, order, migrate_type, found: Vec::new(), last: None }
    }

    /// Returns the next round, best first; empty when no candidate is left or the deadline has
    /// passed. For an order above a pageblock's it returns the lower pageblocks of pairs.
    pub(super) fn next(&mut self, deadline: Deadline) -> Vec<BlockIndex> {
        if self.found.is_empty() {
            self.pass(deadline);
        }
        let rest = self.found.len().saturating_sub(ROUND_PAGEBLOCKS);
        self.found.drain(rest..).rev().collect()
    }

    /// Finds the next best candidates in one pass over every pageblock in use.
    fn pass(&mut self, deadline: Deadline) {
        let mut best = BinaryHeap::with_capacity(MAX_FOUND);
        let (mut end, mut looked) = (u32::MAX, 0_u32);
        let tables = self.zone.tables();
        while let Some(block) = tables.in_use.highest_below(end, Some(&tables.skip)) {
            end = block.0;
            looked += 1;
            if looked.is_multiple_of(DEADLINE_CHECK_INTERVAL) && deadline.has_passed() {
                return;
            }
            // Keep the best of those that earlier passes have not returned.
            let is_new = |&cost: &CandidateCost| self.last.is_none_or(|last| cost > last);
            let Some(cost) = self.cost(block).filter(is_new) else { continue };
            if best.len() < MAX_FOUND {
                best.push(cost);
            } else if best.peek().is_some_and(|&worst| cost < worst) {
                best.pop();
                best.push(cost);
            }
        }
        self.last = best.peek().copied().or(self.last);
        self.found = best.into_sorted_vec().into_iter().rev().map(|cost| cost.block).collect();
    }

    /// Returns a pageblock's cost, or its pair's; `None` when it cannot hold the block.
    fn cost(&self, block: BlockIndex) -> Option<CandidateCost> {
        let tables = self.zone.tables();
        if self.order <= Order::PAGEBLOCK {
            let is_other_type = self.order < Order::PAGEBLOCK
                && tables.blocks.state(block).migrate_type != self.migrate_type;
            let frames_in_use = self.used(block)?;
            return Some(CandidateCost { is_other_type, frames_in_use, block });
        }
        let (lower, upper) = (BlockIndex(block.0 & !1), BlockIndex(block.0 | 1));
        // Count a pair once: from its lower half, if that is in use.
        if block != lower && tables.in_use.contains(lower) || upper.0 >= tables.len {
            return None;
        }
        let frames_in_use = self.used(lower)? + self.used(upper)?;
        Some(CandidateCost { is_other_type: false, frames_in_use, block: lower })
    }

    /// Returns the frames in use in a pageblock; `None` where no block may be made.
    fn used(&self, block: BlockIndex) -> Option<u32> {
        let tables = self.zone.tables();
        // A block has no owner that could move it out of the CMA region again.
        let is_excluded = tables.skip.contains(block) || tables.region.contains(&block.0);
        tables.blocks.state(block).in_use().filter(|_| !is_excluded)
    }
}
