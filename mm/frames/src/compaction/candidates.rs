//! Where direct compaction looks first: the pageblocks that promise most, some at a time.
//!
//! The promise is read from the state of each pageblock in use, without a lock: it is a hint, and a capture looks again. However large the zone is,
//! only the best few are kept; when those are done, the next best are found by another pass.

use std::collections::BinaryHeap;
use std::ops::Range;

use crate::budget::Deadline;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::pageblock::CommitState;
use crate::units::{BlockIndex, MigrateType, Order};
use crate::zone::Zone;

/// Pageblocks that are looked at before the best ranges in them are tried.
const ROUND_PAGEBLOCKS: usize = 64;
/// Pageblocks found by one pass.
const MAX_FOUND: usize = 16 * ROUND_PAGEBLOCKS;
/// Pageblocks passed before the clock is read again.
const DEADLINE_CHECK_INTERVAL: u32 = 1024;

/// Pageblocks that may have a range of an order: those of the type asked for first, so that unmovable blocks do not spread over movable
/// pageblocks, then those with the most free frames, then the lowest.
#[derive(Debug)]
pub(super) struct Candidates<'z> {
    zone: &'z Zone,
    /// What is set aside.
    region: Range<u32>,
    order: Order,
    migrate_type: MigrateType,
    /// What the last pass found, best last.
    found: Vec<BlockIndex>,
    /// The worst of them: all that are better were given out.
    last: Option<CandidateCost>,
    round: Vec<BlockIndex>,
}

/// Better is less.
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
        // At most two pageblocks' frames, so eleven bits hold them.
        Self(u64::from(other) << 43 | u64::from(used) << 32 | u64::from(block.0))
    }

    fn block(self) -> BlockIndex {
        // The lower half is the number.
        BlockIndex(self.0 as u32)
    }
}

const _: () = assert!(2 * PAGEBLOCK_FRAMES < 1 << 11);

impl<'z> Candidates<'z> {
    pub(super) fn new(zone: &'z Zone, order: Order, migrate_type: MigrateType) -> Self {
        let region = zone.buddy.lock().region.clone();
        Self { zone, region, order, migrate_type, found: Vec::new(), last: None, round: Vec::new() }
    }

    /// The next best, best first; none when there are no more, or the time is up. For an order above a pageblock's, the lower ones of pairs.
    pub(super) fn next(&mut self, deadline: Deadline) -> &[BlockIndex] {
        if self.found.is_empty() {
            self.pass(deadline);
        }
        let rest = self.found.len().saturating_sub(ROUND_PAGEBLOCKS);
        self.round.clear();
        self.round.extend(self.found.drain(rest..).rev());
        &self.round
    }

    /// Finds those that come next, in one look at every pageblock in use.
    fn pass(&mut self, deadline: Deadline) {
        let mut best = BinaryHeap::with_capacity(MAX_FOUND);
        let (mut end, mut looked) = (u32::MAX, 0_u32);
        while let Some(block) =
            self.zone.tables.in_use.highest_below(end, Some(&self.zone.tables.skip))
        {
            end = block.0;
            looked += 1;
            if looked.is_multiple_of(DEADLINE_CHECK_INTERVAL) && deadline.has_passed() {
                return;
            }
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

    fn cost(&self, block: BlockIndex) -> Option<CandidateCost> {
        let tables = &self.zone.tables;
        if self.order <= Order::PAGEBLOCK {
            let other = tables.blocks.state(block).migrate_type != self.migrate_type;
            return Some(CandidateCost::new(
                other && self.order < Order::PAGEBLOCK,
                self.used(block)?,
                block,
            ));
        }
        let lower = BlockIndex(block.0 & !1);
        // Once for a pair: from its lower half, if that is in use.
        let counted = block != lower && tables.in_use.contains(lower);
        let pair = !counted && lower.0 + 1 < tables.len;
        Some(CandidateCost::new(
            false,
            pair.then(|| self.used(lower))?? + self.used(BlockIndex(lower.0 + 1))?,
            lower,
        ))
    }

    /// Frames in use in a pageblock; `None` where no block may be made.
    fn used(&self, block: BlockIndex) -> Option<u32> {
        let tables = &self.zone.tables;
        let block_state = tables.blocks.state(block);
        // Blocks have no owner who could clear them away again, so they are not made of what is set aside.
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
