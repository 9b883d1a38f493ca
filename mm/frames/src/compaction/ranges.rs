//! The search for a range of frames: finds the few ranges with the fewest frames to move.
//!
//! The state of a pageblock gives, without a lock, its frames in use, and so the least that
//! clearing it costs. Frames are scanned only when a range with their pageblock could be among
//! the best. Pageblocks without memory cost nothing. All of it is a hint: a capture checks again.
//!
//! The search ends when enough ranges cost nothing, so it does not reach the pageblocks above the
//! memory in use.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use super::contig_error::ContigError;
use super::costs::costs;
use crate::buddy::CommitState;
use crate::budget::Deadline;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::units::{BlockIndex, Order, Pfn};
use crate::zone::Zone;

/// The most ranges tried for a request that names no range.
const MAX_RANGES: usize = 16;
/// Pageblocks scanned between two checks of the deadline.
const CLOCK_INTERVAL: u32 = 64;

/// Returns the best ranges of this many frames, best first: those in the CMA region, then those
/// with the fewest frames to move, then the lowest.
pub(crate) fn best(zone: &Zone, frames: u32, deadline: Deadline) -> Result<Vec<Pfn>, ContigError> {
    let region = zone.allocator().region();
    let mut search = Search { zone, deadline, looked: 0, best: BTreeSet::new() };
    search.walk(frames, region.clone(), &(0..0))?;
    let mut ranges = search.take();
    search.walk(frames, 0..zone.tables().len, &region)?;
    ranges.extend(search.take());
    ranges.truncate(MAX_RANGES);
    Ok(ranges)
}

/// Returns the order of the smallest aligned part of a pageblock with at least this many frames;
/// `None` when one pageblock is too small.
fn sub_block_order(frames: u32) -> Option<Order> {
    // Checked first: above 2^31 frames there is no next power of two.
    let fits = frames <= PAGEBLOCK_FRAMES;
    // At most the order of a pageblock.
    fits.then(|| Order::new(frames.next_power_of_two().ilog2() as u8)).flatten()
}

struct Search<'z> {
    zone: &'z Zone,
    deadline: Deadline,
    looked: u32,
    /// By cost, then by position; at most [`MAX_RANGES`].
    best: BTreeSet<(u32, Pfn)>,
}

impl Search<'_> {
    /// Searches all ranges in these pageblocks that are not wholly inside of `out`.
    fn walk(
        &mut self,
        frames: u32,
        blocks: Range<u32>,
        out: &Range<u32>,
    ) -> Result<(), ContigError> {
        match sub_block_order(frames) {
            Some(order) => self.walk_parts(order, blocks, out),
            None => self.walk_runs(frames.div_ceil(PAGEBLOCK_FRAMES), blocks, out),
        }
    }

    /// Returns the best ranges, best first, and clears the list.
    fn take(&mut self) -> Vec<Pfn> {
        std::mem::take(&mut self.best).into_iter().map(|(_, first)| first).collect()
    }

    /// Searches ranges of at most a pageblock.
    fn walk_parts(
        &mut self,
        order: Order,
        blocks: Range<u32>,
        out: &Range<u32>,
    ) -> Result<(), ContigError> {
        for block in blocks.filter(|block| !out.contains(block)).map(BlockIndex) {
            self.tick()?;
            // Used frames that do not fit outside of the range are inside of it.
            let outside = PAGEBLOCK_FRAMES - order.frames();
            let Some(least) =
                self.least(block).filter(|used| self.is_among_best(used.saturating_sub(outside)))
            else {
                continue;
            };
            // A wholly free pageblock needs no scan.
            let parts = (PAGEBLOCK_FRAMES >> order.get()) as usize;
            let costs =
                if least == 0 { vec![Some(0); parts] } else { costs(self.zone, block, order) };
            let firsts = (0..).map(|at: u32| block.first().plus(at * order.frames()));
            costs
                .into_iter()
                .zip(firsts)
                .for_each(|(cost, first)| cost.into_iter().for_each(|cost| self.add(cost, first)));
            if self.is_done() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Searches ranges of `length` pageblocks with a sliding window.
    fn walk_runs(
        &mut self,
        length: u32,
        blocks: Range<u32>,
        out: &Range<u32>,
    ) -> Result<(), ContigError> {
        let mut window = Window::starting_at(blocks.start);
        for block in blocks.map(BlockIndex) {
            self.tick()?;
            window.push(self.least(block));
            if window.costs.len() < length as usize {
                continue;
            }
            // While the window could be among the best, scan its pageblocks for their exact
            // costs.
            let is_excluded = out.contains(&window.start) && out.contains(&block.0);
            while !is_excluded && window.blocked == 0 && self.is_among_best(window.cost) {
                let Some(inexact) = window.inexact.pop_front() else {
                    self.add(window.cost, BlockIndex(window.start).first());
                    break;
                };
                self.tick()?;
                window.correct(inexact, costs(self.zone, BlockIndex(inexact), Order::PAGEBLOCK)[0]);
            }
            if self.is_done() {
                return Ok(());
            }
            window.pop();
        }
        Ok(())
    }

    /// Returns the fewest frames that may have to move out of a pageblock; `None` when it is
    /// isolated or being released.
    fn least(&self, block: BlockIndex) -> Option<u32> {
        let block_state = self.zone.tables().blocks.state(block);
        match block_state.commit_state {
            _ if block_state.isolated => None,
            CommitState::Releasing => None,
            CommitState::Offline | CommitState::Released => Some(0),
            CommitState::Committed => Some(PAGEBLOCK_FRAMES - block_state.free),
        }
    }

    fn is_among_best(&self, cost: u32) -> bool {
        self.best.len() < MAX_RANGES || self.best.last().is_some_and(|&(worst, _)| cost < worst)
    }

    /// Returns whether no later range can be better: of equal costs, the lower range wins.
    fn is_done(&self) -> bool {
        !self.is_among_best(0)
    }

    fn add(&mut self, cost: u32, first: Pfn) {
        if self.is_among_best(cost) {
            self.best.insert((cost, first));
        }
        if self.best.len() > MAX_RANGES {
            self.best.pop_last();
        }
    }

    /// Counts a pageblock and checks the deadline from time to time.
    fn tick(&mut self) -> Result<(), ContigError> {
        self.looked = self.looked.wrapping_add(1);
        let late = self.looked.is_multiple_of(CLOCK_INTERVAL) && self.deadline.has_passed();
        if late { Err(ContigError::OutOfTime) } else { Ok(()) }
    }
}

/// The cost of one pageblock, in two bytes. A window over a terabyte holds half a million of
/// them, and each time it grows it copies them all between two checks of the deadline.
#[derive(Clone, Copy)]
struct Cost(u16);

// Every possible number of frames differs from `BLOCKED`.
const _: () = assert!(PAGEBLOCK_FRAMES < u16::MAX as u32);

impl Cost {
    /// The pageblock cannot be captured.
    const BLOCKED: Self = Self(u16::MAX);

    fn new(frames: Option<u32>) -> Self {
        // At most the frames of a pageblock, so it fits.
        frames.map_or(Self::BLOCKED, |frames| Self(frames as u16))
    }

    fn frames(self) -> Option<u32> {
        (self.0 != Self::BLOCKED.0).then_some(u32::from(self.0))
    }
}

/// Neighbouring pageblocks and the sum of their costs.
struct Window {
    start: u32,
    costs: VecDeque<Cost>,
    /// Pageblocks of which only the least cost is known.
    inexact: VecDeque<u32>,
    cost: u32,
    /// The number of pageblocks that cannot be captured.
    blocked: u32,
}

impl Window {
    fn starting_at(start: u32) -> Self {
        Self { start, costs: VecDeque::new(), inexact: VecDeque::new(), cost: 0, blocked: 0 }
    }

    fn push(&mut self, least: Option<u32>) {
        // A pageblock without frames in use needs no scan: its cost is exact.
        if least.is_some_and(|least| least > 0) {
            self.inexact.push_back(self.start + self.costs.len() as u32);
        }
        self.count(least);
        self.costs.push_back(Cost::new(least));
    }

    /// Replaces a pageblock's least cost by its exact cost.
    fn correct(&mut self, block: u32, cost: Option<u32>) {
        let old =
            std::mem::replace(&mut self.costs[(block - self.start) as usize], Cost::new(cost));
        self.uncount(old.frames());
        self.count(cost);
    }

    fn pop(&mut self) {
        if let Some(first) = self.costs.pop_front() {
            self.uncount(first.frames());
            if self.inexact.front() == Some(&self.start) {
                self.inexact.pop_front();
            }
            self.start += 1;
        }
    }

    fn count(&mut self, cost: Option<u32>) {
        // The frames of a zone fit in 32 bits.
        self.cost += cost.unwrap_or(0);
        self.blocked += u32::from(cost.is_none());
    }

    fn uncount(&mut self, cost: Option<u32>) {
        self.cost -= cost.unwrap_or(0);
        self.blocked -= u32::from(cost.is_none());
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_the_smallest_that_fits() {
        let orders = [1, 2, 3, 256, 257, PAGEBLOCK_FRAMES]
            .map(|frames| sub_block_order(frames).map(Order::get));
        assert_eq!(orders, [0, 1, 2, 8, 9, 9].map(Some));
    }

    #[test]
    fn ranges_above_a_pageblock_take_whole_pageblocks() {
        for frames in [PAGEBLOCK_FRAMES + 1, 1 << 31, (1 << 31) + 1, u32::MAX] {
            assert_eq!(sub_block_order(frames), None);
        }
    }
}
