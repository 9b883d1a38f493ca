//! What the balloon has, and what it is meant to have.
//!
//! ```text
//!  blocks      whole pageblocks; nobody moves them
//!  list        single frames, movable
//!  isolated    single frames that migration has taken aside
//! ```
//! Its size is the sum of the three, and isolation moves frames between the last two only (R-158). Everything in here changes under one lock,
//! the kernel's `pages_lock`.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use frames::{FrameCount, OwnedBlock, PAGEBLOCK_FRAMES, Pfn};

use crate::frame_set::FrameSet;
use crate::stats::Events;

/// Guarded by the pages lock.
#[derive(Debug, Default)]
pub(crate) struct BalloonInner {
    /// The lowest is at hand. A heap: adding a batch costs its own length, however much is held.
    blocks: BinaryHeap<Reverse<ByPfn>>,
    pub(crate) list: FrameSet,
    pub(crate) isolated: FrameSet,
    pub(crate) events: Events,
    /// `None` for what is there, whatever that is: also when a message was on its way to the host as that was said.
    target: Option<FrameCount>,
    generation: TargetGeneration,
}

/// A block in the order of frame numbers.
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

/// Which setting of the target somebody works for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TargetGeneration(u64);

/// What is missing to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delta {
    /// The target is another one by now, and somebody else's to reach.
    Superseded,
    Reached,
    TooSmall(FrameCount),
    TooLarge(FrameCount),
}

impl BalloonInner {
    pub(crate) fn target(&self) -> FrameCount {
        self.target.unwrap_or_else(|| self.actual())
    }

    /// The blocks, in no order.
    pub(crate) fn blocks(&self) -> impl ExactSizeIterator<Item = &OwnedBlock> {
        self.blocks.iter().map(|Reverse(block)| &block.0)
    }

    pub(crate) fn add_blocks(&mut self, blocks: Vec<OwnedBlock>) {
        blocks.into_iter().for_each(|block| self.blocks.push(Reverse(ByPfn(block))));
    }

    pub(crate) fn take_lowest_block(&mut self) -> Option<OwnedBlock> {
        self.blocks.pop().map(|Reverse(block)| block.0)
    }

    /// Memory these records take on the heap. Units: bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let blocks = self.blocks.capacity() * size_of::<OwnedBlock>();
        (blocks + self.list.bytes() + self.isolated.bytes()) as u64
    }

    /// An empty balloon keeps no records.
    pub(crate) fn trim(&mut self) {
        if self.actual() == FrameCount(0) {
            (self.blocks, self.list, self.isolated) = Default::default();
        }
    }

    /// Frames the host has.
    pub(crate) fn actual(&self) -> FrameCount {
        let blocks = self.blocks.len() as u64 * u64::from(PAGEBLOCK_FRAMES);
        FrameCount(blocks + self.list.len() as u64 + self.isolated.len() as u64)
    }

    /// Sets another target. Whoever works for an older one stops.
    pub(crate) fn set_target(&mut self, target: FrameCount) -> TargetGeneration {
        self.target = Some(target);
        self.generation.0 += 1;
        self.generation
    }

    /// What is there is the target. Whoever works for an older one stops.
    pub(crate) fn keep_current_size(&mut self) {
        self.target = None;
        self.generation.0 += 1;
    }

    pub(crate) fn delta(&self, generation: TargetGeneration) -> Delta {
        let (actual, target) = (self.actual().0, self.target().0);
        if generation != self.generation {
            Delta::Superseded
        } else if actual < target {
            Delta::TooSmall(FrameCount(target - actual))
        } else if actual > target {
            Delta::TooLarge(FrameCount(actual - target))
        } else {
            Delta::Reached
        }
    }

    /// R-155. `false` for a frame that is not on the list: it is on its way out.
    pub(crate) fn isolate(&mut self, pfn: Pfn) -> bool {
        self.list.remove(pfn) && self.isolated.insert(pfn)
    }

    /// R-156.
    pub(crate) fn put_back(&mut self, pfn: Pfn) {
        if self.isolated.remove(pfn) {
            self.list.insert(pfn);
        }
    }

    /// R-153 and R-157: the new frame is on the list; the old one leaves the count of isolated frames, and no list, since it is on none (S-40).
    pub(crate) fn replace(&mut self, old: Pfn, new: Pfn) {
        self.isolated.remove(old);
        self.list.insert(new);
        self.events.migrated += 1;
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

    /// R-150.
    #[test]
    fn it_starts_empty_and_wants_nothing() {
        let inner = BalloonInner::default();
        assert_eq!(
            (inner.actual(), inner.target(), inner.isolated.len()),
            (FrameCount(0), FrameCount(0), 0)
        );
        assert_eq!(inner.delta(TargetGeneration::default()), Delta::Reached);
    }

    /// R-155, R-156, R-158.
    #[test]
    fn isolation_moves_a_frame_and_keeps_the_size() {
        let mut inner = with_frames(&[3, 5]);
        assert!(inner.isolate(Pfn(5)));
        assert_eq!((inner.list.len(), inner.isolated.len(), inner.actual()), (1, 1, FrameCount(2)));
        assert!(!inner.isolate(Pfn(5)), "it is not on the list any more");
        inner.put_back(Pfn(5));
        assert_eq!((inner.list.len(), inner.isolated.len(), inner.actual()), (2, 0, FrameCount(2)));
        inner.put_back(Pfn(9));
        assert_eq!(
            inner.actual(),
            FrameCount(2),
            "a frame that was never isolated is not put back"
        );
    }

    /// S-40, R-153.
    #[test]
    fn a_migrated_frame_leaves_no_trace_and_touches_no_list() {
        let mut inner = with_frames(&[3, 5]);
        assert!(inner.isolate(Pfn(5)));
        inner.replace(Pfn(5), Pfn(1));
        assert!(inner.list.iter().eq([Pfn(1), Pfn(3)]), "{:?}", inner.list);
        assert_eq!(
            (inner.isolated.len(), inner.actual(), inner.events.migrated),
            (0, FrameCount(2), 1)
        );
    }

    #[test]
    fn only_the_latest_target_has_a_gap() {
        let mut inner = with_frames(&[1, 2, 3]);
        let first = inner.set_target(FrameCount(10));
        assert_eq!(inner.delta(first), Delta::TooSmall(FrameCount(7)));
        let second = inner.set_target(FrameCount(2));
        assert_eq!(inner.delta(first), Delta::Superseded);
        assert_eq!(inner.delta(second), Delta::TooLarge(FrameCount(1)));
        let third = inner.set_target(FrameCount(3));
        assert_eq!((inner.delta(second), inner.delta(third)), (Delta::Superseded, Delta::Reached));
    }

    /// A batch costs as much in a large balloon as in a small one, in whatever order batches come.
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
        // Batches from the top down: each is lower than all that is there.
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
        assert!(numbers.is_sorted(), "the lowest first");
    }
}
