//! The balloon's records and its target.
//!
//! ```text
//!  blocks      whole pageblocks, which are never moved
//!  list        single frames, movable
//!  isolated    single frames that migration has isolated
//! ```
//! The size is the sum of the three. Isolation only moves frames between `list` and `isolated`
//! (R-158). One lock guards all of it, the kernel's `pages_lock`.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::ops::ControlFlow;

use frames::{FrameCount, OwnedBlock, PAGEBLOCK_FRAMES, Pfn};

use crate::frame_set::FrameSet;
use crate::report::{BalloonStats, StopReason};

/// The state guarded by the pages lock.
#[derive(Debug, Default)]
pub(crate) struct BalloonInner {
    /// A min-heap by frame number: adding a batch costs its own length, not that of the heap.
    blocks: BinaryHeap<Reverse<ByPfn>>,
    pub(crate) list: FrameSet,
    pub(crate) isolated: FrameSet,
    /// The totals since the balloon was created. The sizes in it stay zero: the records have them.
    pub(crate) counts: BalloonStats,
    /// `None` for the current size, including a batch that was with the host when this was set.
    target: Option<FrameCount>,
    generation: TargetGeneration,
}

/// A block, ordered by frame number.
#[derive(Debug)]
struct ByPfn(OwnedBlock);

impl Ord for ByPfn {
    fn cmp(&self, other: &Self) -> Ordering {
        #[cfg(all(test, not(any(loom, shuttle))))]
        tests::COMPARISONS.with(|count| count.set(count.get() + 1));
        self.0.first().cmp(&other.0.first())
    }
}

impl PartialOrd for ByPfn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByPfn {
    fn eq(&self, other: &Self) -> bool {
        self.0.first() == other.0.first()
    }
}

impl Eq for ByPfn {}

/// A counter of target changes: a thread stops when the one it works for is not the latest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TargetGeneration(u64);

/// The difference between the size and the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delta {
    Reached,
    TooSmall(FrameCount),
    TooLarge(FrameCount),
}

impl BalloonInner {
    /// Returns the target.
    pub(crate) fn target(&self) -> FrameCount {
        self.target.unwrap_or_else(|| self.actual())
    }

    /// Returns the blocks in arbitrary order.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &OwnedBlock> {
        self.blocks.iter().map(|Reverse(block)| &block.0)
    }

    /// Adds blocks.
    pub(crate) fn add_blocks(&mut self, blocks: Vec<OwnedBlock>) {
        blocks.into_iter().for_each(|block| self.blocks.push(Reverse(ByPfn(block))));
    }

    /// Removes and returns the lowest block.
    pub(crate) fn take_lowest_block(&mut self) -> Option<OwnedBlock> {
        self.blocks.pop().map(|Reverse(block)| block.0)
    }

    /// Returns the heap memory of the records. Units: bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let blocks = self.blocks.capacity() * size_of::<OwnedBlock>();
        (blocks + self.list.bytes() + self.isolated.bytes()) as u64
    }

    /// Frees the records of an empty balloon.
    pub(crate) fn trim(&mut self) {
        if self.actual() == FrameCount(0) {
            (self.blocks, self.list, self.isolated) = Default::default();
        }
    }

    /// Returns the size: the frames the host has.
    pub(crate) fn actual(&self) -> FrameCount {
        let blocks = self.blocks.len() as u64 * u64::from(PAGEBLOCK_FRAMES);
        FrameCount(blocks + self.list.len() as u64 + self.isolated.len() as u64)
    }

    /// Sets a target and returns its generation. A thread that works towards an older one stops.
    pub(crate) fn set_target(&mut self, target: FrameCount) -> TargetGeneration {
        self.target = Some(target);
        self.generation.0 += 1;
        self.generation
    }

    /// Makes the current size the target. A thread that works towards an older one stops.
    pub(crate) fn keep_current_size(&mut self) {
        self.target = None;
        self.generation.0 += 1;
    }

    /// Returns what `generation` has left to do, or breaks with [`StopReason::Superseded`] when it
    /// is not the latest: another thread set a target.
    pub(crate) fn delta(&self, generation: TargetGeneration) -> ControlFlow<StopReason, Delta> {
        if generation != self.generation {
            return ControlFlow::Break(StopReason::Superseded);
        }
        let (actual, target) = (self.actual().0, self.target().0);
        ControlFlow::Continue(match actual.cmp(&target) {
            Ordering::Less => Delta::TooSmall(FrameCount(target - actual)),
            Ordering::Equal => Delta::Reached,
            Ordering::Greater => Delta::TooLarge(FrameCount(actual - target)),
        })
    }

    /// Returns the statistics.
    pub(crate) fn stats(&self) -> BalloonStats {
        BalloonStats {
            target: self.target(),
            actual: self.actual(),
            blocks: self.blocks.len() as u64,
            frames: FrameCount((self.list.len() + self.isolated.len()) as u64),
            isolated: FrameCount(self.isolated.len() as u64),
            record_bytes: self.bytes(),
            ..self.counts
        }
    }

    /// Moves a frame from the list to the isolated ones (R-155). Returns `false` for a frame that
    /// is not on the list, since it is being deflated.
    pub(crate) fn isolate(&mut self, pfn: Pfn) -> bool {
        self.list.remove(pfn) && self.isolated.insert(pfn)
    }

    /// Moves an isolated frame back to the list (R-156).
    pub(crate) fn put_back(&mut self, pfn: Pfn) {
        if self.isolated.remove(pfn) {
            self.list.insert(pfn);
        }
    }

    /// Records a migration (R-153, R-157): adds the new frame to the list and removes the old one
    /// from the isolated frames. The old frame is on no other list (S-40).
    pub(crate) fn replace(&mut self, old: Pfn, new: Pfn) {
        self.isolated.remove(old);
        self.list.insert(new);
        self.counts.migrated_total += 1;
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use frames::{MigrateType, Order, Reclaim, Zone, ZoneConfig};

    use super::*;

    thread_local! {
        /// Comparisons of blocks by this thread.
        pub(super) static COMPARISONS: Cell<u64> = const { Cell::new(0) };
    }

    fn with_frames(frames: &[u32]) -> BalloonInner {
        BalloonInner { list: frames.iter().copied().map(Pfn).collect(), ..BalloonInner::default() }
    }

    /// R-150: a new balloon is empty and its target is reached.
    #[test]
    fn starts_empty_with_its_target_reached() {
        let inner = BalloonInner::default();
        assert_eq!(
            (inner.actual(), inner.target(), inner.isolated.len()),
            (FrameCount(0), FrameCount(0), 0)
        );
        assert_eq!(inner.delta(TargetGeneration::default()), ControlFlow::Continue(Delta::Reached));
    }

    /// R-155, R-156, R-158: isolation and putback keep the size.
    #[test]
    fn isolation_moves_a_frame_and_keeps_the_size() {
        let mut inner = with_frames(&[3, 5]);
        assert!(inner.isolate(Pfn(5)));
        assert_eq!((inner.list.len(), inner.isolated.len(), inner.actual()), (1, 1, FrameCount(2)));
        assert!(!inner.isolate(Pfn(5)), "it is no longer on the list");
        inner.put_back(Pfn(5));
        assert_eq!((inner.list.len(), inner.isolated.len(), inner.actual()), (2, 0, FrameCount(2)));
        inner.put_back(Pfn(9));
        assert_eq!(
            inner.actual(),
            FrameCount(2),
            "a frame that was never isolated is not put back"
        );
    }

    /// S-40, R-153: a migration removes the old frame from the isolated ones only.
    #[test]
    fn a_migrated_frame_leaves_no_trace() {
        let mut inner = with_frames(&[3, 5]);
        assert!(inner.isolate(Pfn(5)));
        inner.replace(Pfn(5), Pfn(1));
        assert!(inner.list.iter().eq([Pfn(1), Pfn(3)]), "{:?}", inner.list);
        assert_eq!(
            (inner.isolated.len(), inner.actual(), inner.counts.migrated_total),
            (0, FrameCount(2), 1)
        );
    }

    #[test]
    fn only_the_latest_target_has_a_delta() {
        let mut inner = with_frames(&[1, 2, 3]);
        let first = inner.set_target(FrameCount(10));
        let superseded = ControlFlow::Break(StopReason::Superseded);
        assert_eq!(inner.delta(first), ControlFlow::Continue(Delta::TooSmall(FrameCount(7))));
        let second = inner.set_target(FrameCount(2));
        assert_eq!(inner.delta(first), superseded);
        assert_eq!(inner.delta(second), ControlFlow::Continue(Delta::TooLarge(FrameCount(1))));
        let third = inner.set_target(FrameCount(3));
        assert_eq!(inner.delta(second), superseded);
        assert_eq!(inner.delta(third), ControlFlow::Continue(Delta::Reached));
    }

    /// The cost of adding a batch depends on the batch, not on the size of the balloon or the order
    /// of batches.
    #[test]
    #[cfg_attr(miri, ignore = "reserves more than it commits")]
    fn a_batch_is_added_without_sorting_the_rest() {
        let blocks = 4096_u32;
        let capacity = FrameCount(u64::from(blocks * PAGEBLOCK_FRAMES));
        let zone = Arc::new(
            Zone::new(ZoneConfig { capacity, ..ZoneConfig::default() }).expect("address space"),
        );
        let take =
            |_| zone.alloc_owned_block(Order::PAGEBLOCK, MigrateType::Movable, Reclaim::NotAllowed);
        let mut taken: Vec<_> =
            (0..blocks).map(take).collect::<Result<_, _>>().expect("an empty zone");
        let mut inner = BalloonInner::default();
        let before = COMPARISONS.get();
        // From the highest batch to the lowest: each block becomes the new minimum.
        while !taken.is_empty() {
            inner.add_blocks(taken.split_off(taken.len().saturating_sub(32)));
        }
        let added = COMPARISONS.get() - before;
        assert!(
            added <= u64::from(blocks * (blocks.ilog2() + 1)),
            "{added} comparisons for {blocks} blocks"
        );
        let numbers: Vec<_> =
            std::iter::from_fn(|| inner.take_lowest_block()).map(|block| block.first()).collect();
        assert_eq!(numbers.len(), blocks as usize);
        assert!(numbers.is_sorted(), "the lowest block comes first");
    }
}
