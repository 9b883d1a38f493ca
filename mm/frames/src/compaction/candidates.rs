//! The pageblocks that direct compaction tries, best first, some at a time.
//!
//! The cost of a pageblock is read from its state without a lock: it is a hint, and a capture
//! checks again. However large the zone is, one pass keeps only a fixed number of the best. When
//! those are used up, another pass finds the next best.

use std::collections::BinaryHeap;
use std::ops::Range;

use crate::buddy::CommitState;
use crate::budget::Deadline;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::units::{BlockIndex, MigrateType, Order};
use crate::zone::Zone;

/// Pageblocks whose ranges are compared in one round.
const ROUND_PAGEBLOCKS: usize = 64;
/// The most pageblocks found by one pass.
const MAX_FOUND: usize = 16 * ROUND_PAGEBLOCKS;
/// Pageblocks scanned between two checks of the deadline.
const DEADLINE_CHECK_INTERVAL: u32 = 1024;

/// Pageblocks that may have a range of an order. First those of the requested type, so that
/// unmovable blocks do not spread over movable pageblocks; then those with the most free frames;
/// then the lowest.
#[derive(Debug)]
pub(super) struct Candidates<'z> {
    zone: &'z Zone,
    /// The pageblocks of the CMA region.
    region: Range<u32>,
    order: Order,
    migrate_type: MigrateType,
    /// The rest of the last pass, best last.
    found: Vec<BlockIndex>,
    /// The worst candidate of the last pass: all better ones have been tried.
    last: Option<CandidateCost>,
    /// The candidates of the current round, best first.
    round: Vec<BlockIndex>,
}

/// The cost of a candidate. Less is better.
///
/// ```text
///  63           44     43     42              32 31                    0
/// +---------------+--------+--------------------+----------------------+
/// | 0             | other  | frames in use      | pageblock            |
/// +---------------+--------+--------------------+----------------------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CandidateCost(u64);

impl CandidateCost {
    fn new(other: bool, used: u32, block: BlockIndex) -> Self {
        // At most the frames of two pageblocks, which fit in eleven bits.
        Self(u64::from(other) << 43 | u64::from(used) << 32 | u64::from(block.0))
    }

    fn block(self) -> BlockIndex {
        // The lower half is the pageblock's number.
        BlockIndex(self.0 as u32)
    }
}

const _: () = assert!(2 * PAGEBLOCK_FRAMES < 1 << 11);

impl<'z> Candidates<'z> {
    pub(super) fn new(zone: &'z Zone, order: Order, migrate_type: MigrateType) -> Self {
        let region = zone.allocator().region();
        Self { zone, region, order, migrate_type, found: Vec::new(), last: None, round: Vec::new() }
    }

    /// Returns the next round, best first; empty when no candidate is left or the deadline has
    /// passed. For an order above a pageblock's it returns the lower pageblocks of pairs.
    pub(super) fn next(&mut self, deadline: Deadline) -> &[BlockIndex] {
        if self.found.is_empty() {
            self.pass(deadline);
        }
        let rest = self.found.len().saturating_sub(ROUND_PAGEBLOCKS);
        self.round.clear();
        self.round.extend(self.found.drain(rest..).rev());
        &self.round
    }

    /// Finds the next best candidates in one pass over every pageblock in use.
    fn pass(&mut self, deadline: Deadline) {
        let mut best = BinaryHeap::with_capacity(MAX_FOUND);
        let (mut end, mut looked) = (u32::MAX, 0_u32);
        while let Some(block) =
            self.zone.tables().in_use.highest_below(end, Some(&self.zone.tables().skip))
        {
            end = block.0;
            looked += 1;
            if looked.is_multiple_of(DEADLINE_CHECK_INTERVAL) && deadline.has_passed() {
                return;
            }
            // Keep the best of those that earlier passes have not returned.
            let Some(cost) =
                self.cost(block).filter(|&cost| self.last.is_none_or(|last| cost > last))
            else {
                continue;
            };
            if best.len() < MAX_FOUND {
                best.push(cost);
            } else if best.peek().is_some_and(|&worst| cost < worst) {
                best.pop();
                best.push(cost);
            }
        }
        self.last = best.peek().copied().or(self.last);
        self.found = best.into_sorted_vec().into_iter().rev().map(CandidateCost::block).collect();
    }

    /// Returns a pageblock's cost, or its pair's; `None` when it cannot hold the block.
    fn cost(&self, block: BlockIndex) -> Option<CandidateCost> {
        let tables = self.zone.tables();
        if self.order <= Order::PAGEBLOCK {
            let other = tables.blocks.state(block).migrate_type != self.migrate_type;
            return Some(CandidateCost::new(
                other && self.order < Order::PAGEBLOCK,
                self.used(block)?,
                block,
            ));
        }
        let lower = BlockIndex(block.0 & !1);
        // Count a pair once: from its lower half, if that is in use.
        let counted = block != lower && tables.in_use.contains(lower);
        let pair = !counted && lower.0 + 1 < tables.len;
        Some(CandidateCost::new(
            false,
            pair.then(|| self.used(lower))?? + self.used(BlockIndex(lower.0 + 1))?,
            lower,
        ))
    }

    /// Returns the frames in use in a pageblock; `None` where no block may be made.
    fn used(&self, block: BlockIndex) -> Option<u32> {
        let tables = self.zone.tables();
        let block_state = tables.blocks.state(block);
        // A block has no owner that could move it out of the CMA region again.
        if tables.skip.contains(block) || block_state.isolated || self.region.contains(&block.0) {
            return None;
        }
        Some(if block_state.commit_state == CommitState::Committed {
            PAGEBLOCK_FRAMES - block_state.free
        } else {
            0
        })
    }
}
