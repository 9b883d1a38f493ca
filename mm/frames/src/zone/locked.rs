//! The page lock of a frame that is being migrated.

use std::cell::RefCell;
use std::sync::Arc;

use super::allocator::FrameAllocator;
use super::lru::LruLists;
use crate::buddy::InFlight;
use crate::page::LruState;
use crate::units::Pfn;

/// A frame whose page lock is held, as the callbacks of [`MovableOps`](crate::MovableOps) get it.
/// Dropping it unlocks.
#[derive(Debug)]
pub struct LockedFrame<'z> {
    allocator: &'z FrameAllocator,
    pfn: Pfn,
    pub(super) replaced_by: ReplacedBy,
    pub(super) lru: Option<LruPlace>,
    /// What arrived with the target that replaced it. Recorded here because the owner's return
    /// value is lost when the owner panics after [`Target::commit`](crate::Target::commit).
    pub(super) committed: RefCell<Option<InFlight>>,
}

/// The list that an LRU frame was on when it was isolated.
#[derive(Clone, Debug)]
pub(crate) struct LruPlace {
    pub(crate) lists: Arc<LruLists>,
    pub(crate) state: LruState,
}

/// Which call may replace a frame by a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplacedBy {
    /// The owner's callback.
    Owner,
    /// The holder of the chain that the frame is in: its record changes with the frame.
    Chain,
}

impl<'z> LockedFrame<'z> {
    /// Wraps a page lock that the caller took.
    pub(crate) fn new(
        allocator: &'z FrameAllocator,
        pfn: Pfn,
        replaced_by: ReplacedBy,
        lru: Option<LruPlace>,
    ) -> Self {
        Self { allocator, pfn, replaced_by, lru, committed: RefCell::new(None) }
    }

    /// Takes what arrived with the target that replaced the frame while it was locked.
    pub(crate) fn take_committed(&self) -> Option<InFlight> {
        self.committed.take()
    }

    /// Returns the frame's number.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// Returns the private value and position that the owner passed to
    /// [`Owner::set_movable`](crate::Owner::set_movable).
    #[must_use]
    pub fn private(&self) -> Option<(u32, u8)> {
        self.allocator.tables.frames.private(self.pfn)
    }

    pub(crate) fn allocator(&self) -> &'z FrameAllocator {
        self.allocator
    }
}

impl LruPlace {
    /// Puts a frame on the list: the isolated one, or the one that replaced it.
    pub(crate) fn put_back(&self, allocator: &FrameAllocator, pfn: Pfn) {
        self.lists.with(&allocator.tables.frames).put_back(pfn, self.state);
    }
}

impl Drop for LockedFrame<'_> {
    fn drop(&mut self) {
        self.allocator.tables.frames.update(self.pfn, |state| Some(state.unlocked()));
    }
}
