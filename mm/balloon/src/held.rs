//! What the balloon has, and what it is meant to have.
//!
//! ```text
//!  blocks      whole pageblocks; nobody moves them
//!  list        single frames, movable
//!  isolated    single frames that migration has taken aside
//! ```
//! Its size is the sum of the three, and isolation moves frames between the last two only (R-158). Everything in here changes under one lock,
//! the kernel's `pages_lock`.

use std::cmp::Reverse;

use frames::{FrameCount, OwnedBlock, PAGEBLOCK_FRAMES, Pfn};

use crate::set::FrameSet;
use crate::stats::Events;

/// Guarded by the pages lock.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Highest first, so that the lowest is at hand.
    blocks: Vec<OwnedBlock>,
    pub(crate) list: FrameSet,
    pub(crate) isolated: FrameSet,
    pub(crate) events: Events,
    /// `None` for what is there, whatever that is: also when a message was on its way to the host as that was said.
    target: Option<FrameCount>,
    goal: Goal,
}

/// Which setting of the target somebody works for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Goal(u64);

/// What is missing to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    /// The target is another one by now, and somebody else's to reach.
    Superseded,
    Reached,
    TooSmall(FrameCount),
    TooLarge(FrameCount),
}

impl Held {
    pub(crate) fn target(&self) -> FrameCount {
        self.target.unwrap_or_else(|| self.actual())
    }

    pub(crate) fn blocks(&self) -> &[OwnedBlock] {
        &self.blocks
    }

    pub(crate) fn add_blocks(&mut self, blocks: Vec<OwnedBlock>) {
        self.blocks.extend(blocks);
        self.blocks.sort_unstable_by_key(|block| Reverse(block.first()));
    }

    pub(crate) fn take_lowest_block(&mut self) -> Option<OwnedBlock> {
        self.blocks.pop()
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
    pub(crate) fn aim(&mut self, target: FrameCount) -> Goal {
        self.target = Some(target);
        self.goal.0 += 1;
        self.goal
    }

    /// What is there is the target. Whoever works for an older one stops.
    pub(crate) fn stay(&mut self) {
        self.target = None;
        self.goal.0 += 1;
    }

    pub(crate) fn gap(&self, goal: Goal) -> Gap {
        let (actual, target) = (self.actual().0, self.target().0);
        if goal != self.goal {
            Gap::Superseded
        } else if actual < target {
            Gap::TooSmall(FrameCount(target - actual))
        } else if actual > target {
            Gap::TooLarge(FrameCount(actual - target))
        } else {
            Gap::Reached
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn with_frames(frames: &[u32]) -> Held {
        Held { list: frames.iter().copied().map(Pfn).collect(), ..Held::default() }
    }

    /// R-150.
    #[test]
    fn it_starts_empty_and_wants_nothing() {
        let held = Held::default();
        assert_eq!((held.actual(), held.target(), held.isolated.len()), (FrameCount(0), FrameCount(0), 0));
        assert_eq!(held.gap(Goal::default()), Gap::Reached);
    }

    /// R-155, R-156, R-158.
    #[test]
    fn isolation_moves_a_frame_and_keeps_the_size() {
        let mut held = with_frames(&[3, 5]);
        assert!(held.isolate(Pfn(5)));
        assert_eq!((held.list.len(), held.isolated.len(), held.actual()), (1, 1, FrameCount(2)));
        assert!(!held.isolate(Pfn(5)), "it is not on the list any more");
        held.put_back(Pfn(5));
        assert_eq!((held.list.len(), held.isolated.len(), held.actual()), (2, 0, FrameCount(2)));
        held.put_back(Pfn(9));
        assert_eq!(held.actual(), FrameCount(2), "a frame that was never isolated is not put back");
    }

    /// S-40, R-153.
    #[test]
    fn a_migrated_frame_leaves_no_trace_and_touches_no_list() {
        let mut held = with_frames(&[3, 5]);
        assert!(held.isolate(Pfn(5)));
        held.replace(Pfn(5), Pfn(1));
        assert!(held.list.iter().eq([Pfn(1), Pfn(3)]), "{:?}", held.list);
        assert_eq!((held.isolated.len(), held.actual(), held.events.migrated), (0, FrameCount(2), 1));
    }

    #[test]
    fn only_the_latest_target_has_a_gap() {
        let mut held = with_frames(&[1, 2, 3]);
        let first = held.aim(FrameCount(10));
        assert_eq!(held.gap(first), Gap::TooSmall(FrameCount(7)));
        let second = held.aim(FrameCount(2));
        assert_eq!(held.gap(first), Gap::Superseded);
        assert_eq!(held.gap(second), Gap::TooLarge(FrameCount(1)));
        let third = held.aim(FrameCount(3));
        assert_eq!((held.gap(second), held.gap(third)), (Gap::Superseded, Gap::Reached));
    }
}
