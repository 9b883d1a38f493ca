//! The search for a range of frames: finds the few ranges with the fewest frames to move.
//!
//! The state of a pageblock gives, without a lock, its frames in use: they may all have to move.
//! Frames are scanned only when a range with their pageblock could be among the best. All of it is
//! a hint: a capture checks again. The search ends when enough ranges cost nothing, so it does not
//! reach the pageblocks above the memory in use.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use super::costs::costs;
use super::request::{ContigError, check_time};
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
    let (len, region) = (zone.tables().len, &zone.tables().region);
    let mut ranges = Vec::new();
    for (blocks, out) in [(region.clone(), 0..0), (0..len, region.clone())] {
        let mut search = Search { zone, deadline, blocks, out, looked: 0, best: BTreeSet::new() };
        match sub_block_order(frames) {
            Some(order) => search.walk_parts(order)?,
            None => search.walk_runs(frames.div_ceil(PAGEBLOCK_FRAMES))?,
        }
        ranges.extend(search.best.into_iter().map(|(_, first)| first));
    }
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

/// A search of all ranges in these pageblocks that are not wholly inside of `out`.
struct Search<'z> {
    zone: &'z Zone,
    deadline: Deadline,
    blocks: Range<u32>,
    out: Range<u32>,
    looked: u32,
    /// By cost, then by position; at most [`MAX_RANGES`].
    best: BTreeSet<(u32, Pfn)>,
}

impl Search<'_> {
    /// Searches ranges of at most a pageblock.
    fn walk_parts(&mut self, order: Order) -> Result<(), ContigError> {
        let out = self.out.clone();
        for block in self.blocks.clone().filter(|block| !out.contains(block)).map(BlockIndex) {
            self.tick()?;
            // Used frames that do not fit outside of the range are inside of it.
            let outside = PAGEBLOCK_FRAMES - order.frames();
            let least = self.in_use(block).map(|used| used.saturating_sub(outside));
            if !least.is_some_and(|least| self.is_among_best(least)) {
                continue;
            }
            let costs = costs(self.zone, block, order);
            costs.into_iter().for_each(|(cost, first)| self.add(cost, first));
            if self.is_done() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Searches ranges of `length` pageblocks with a sliding window.
    fn walk_runs(&mut self, length: u32) -> Result<(), ContigError> {
        let mut window = Window::new(self.blocks.start, self.blocks.len().min(length as usize));
        for block in self.blocks.clone().map(BlockIndex) {
            self.tick()?;
            window.push(self.in_use(block));
            if window.costs.len() < length as usize {
                continue;
            }
            // While the window could be among the best, scan its pageblocks for exact costs.
            let is_excluded = self.out.contains(&window.start) && self.out.contains(&block.0);
            while !is_excluded && window.blocked == 0 && self.is_among_best(window.cost) {
                let Some(inexact) = window.inexact.pop_front() else {
                    self.add(window.cost, BlockIndex(window.start).first());
                    break;
                };
                self.tick()?;
                let exact = costs(self.zone, BlockIndex(inexact), Order::PAGEBLOCK).pop();
                window.correct(inexact, exact.map(|(cost, _)| cost));
            }
            if self.is_done() {
                return Ok(());
            }
            window.pop();
        }
        Ok(())
    }

    fn in_use(&self, block: BlockIndex) -> Option<u32> {
        self.zone.tables().blocks.state(block).in_use()
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
        if self.looked.is_multiple_of(CLOCK_INTERVAL) { check_time(self.deadline) } else { Ok(()) }
    }
}

/// Neighbouring pageblocks and the sum of their costs.
struct Window {
    start: u32,
    costs: VecDeque<Option<u32>>,
    /// Pageblocks of which only the least cost is known.
    inexact: VecDeque<u32>,
    cost: u32,
    /// The number of pageblocks that cannot be captured.
    blocked: u32,
}

impl Window {
    fn new(start: u32, length: usize) -> Self {
        // Reserved at once: a window over a terabyte has half a million costs, and growing would
        // copy them all between two checks of the deadline.
        let (costs, inexact) = (VecDeque::with_capacity(length), VecDeque::with_capacity(length));
        Self { start, costs, inexact, cost: 0, blocked: 0 }
    }

    fn push(&mut self, least: Option<u32>) {
        // A pageblock without frames in use needs no scan: its cost is exact.
        if least.is_some_and(|least| least > 0) {
            self.inexact.push_back(self.start + self.costs.len() as u32);
        }
        self.count(least);
        self.costs.push_back(least);
    }

    /// Replaces a pageblock's least cost by its exact cost.
    fn correct(&mut self, block: u32, cost: Option<u32>) {
        let old = std::mem::replace(&mut self.costs[(block - self.start) as usize], cost);
        self.uncount(old);
        self.count(cost);
    }

    fn pop(&mut self) {
        if let Some(first) = self.costs.pop_front() {
            self.uncount(first);
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
