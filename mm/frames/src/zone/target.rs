//! The frames that content moves to.

use super::allocator::FrameAllocator;
use super::locked::{LockedFrame, ReplacedBy};
use crate::buddy::InFlight;
use crate::page::{OwnerId, State};
use crate::units::Pfn;

/// A fresh frame without an owner. Dropping it frees the frame.
#[derive(Debug)]
#[must_use = "dropping a target frees it"]
pub struct Target<'z> {
    allocator: &'z FrameAllocator,
    pfn: Pfn,
    /// One frame if the target replaces a frame which is about to be freed: it counts against the
    /// limit only then, so that a full zone can be compacted.
    in_flight: InFlight,
}

/// Proof that a target replaced the old frame. Only committing a [`Target`] makes one.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "`migrate` returns it"]
pub struct Committed {
    to: Pfn,
}

/// Why an owner did not move a frame. Each variant returns the target.
#[derive(Debug)]
#[must_use = "dropping it frees the target"]
pub enum MigrateError<'z> {
    /// Another thread uses the frame: the next pass may find it free.
    Again(Target<'z>),
    /// The owner cannot move the frame in this call.
    Failed(Target<'z>),
    /// The owner has released the frame: there is nothing to move.
    Gone(Target<'z>),
}

impl<'z> Target<'z> {
    /// Makes a target of a frame that the caller chose and holds a reference to. With other
    /// references it is not frozen, and [`Target::commit`] refuses it.
    pub(crate) fn from_used(allocator: &'z FrameAllocator, pfn: Pfn) -> Self {
        let _ = allocator.tables.frames.freeze(pfn);
        Self::from_frozen(allocator, pfn)
    }

    /// Makes a target of a frame that just came from the buddy lists.
    pub(crate) fn from_cached(
        allocator: &'z FrameAllocator,
        pfn: Pfn,
        in_flight: InFlight,
    ) -> Self {
        allocator.tables.frames.change(pfn, State::CACHED, State::FROZEN);
        Self { allocator, pfn, in_flight }
    }

    /// Makes a target of a frame that was allocated frozen and is charged.
    pub(crate) fn from_frozen(allocator: &'z FrameAllocator, pfn: Pfn) -> Self {
        Self { allocator, pfn, in_flight: InFlight::default() }
    }

    /// Returns the frame's number.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    pub(crate) fn allocator(&self) -> &'z FrameAllocator {
        self.allocator
    }

    /// Returns whether it is a frozen single frame of this zone: no other thread has it or can
    /// get it. A caller that chooses targets itself could offer any frame.
    pub(crate) fn is_fresh_in(&self, allocator: &FrameAllocator) -> bool {
        std::ptr::eq(self.allocator, allocator)
            && allocator.tables.frames.state(self.pfn) == State::FROZEN
    }

    /// Replaces `from`: the new frame gets its owner and its private value, migration frees the old
    /// one, and the owner writes the new number into its records in the same critical section.
    ///
    /// Frames of chains are replaced by `FrameChains::migrate_frame` instead, with the chain
    /// exclusively held, since its record changes with them.
    ///
    /// # Errors
    /// [`MigrateError::Gone`] when the owner has released the old frame. [`MigrateError::Failed`]
    /// when the old frame is in a chain, or the target is not a frozen frame of the same zone.
    /// Nothing has changed then.
    pub fn commit(self, from: &LockedFrame<'_>) -> Result<Committed, MigrateError<'z>> {
        self.commit_if(from, |_| from.replaced_by == ReplacedBy::Owner)
    }

    /// Replaces a frame of a chain of this owner. The caller holds the chain exclusively and
    /// enters the new frame into the chain's record.
    pub(crate) fn commit_in_chain(
        self,
        from: &LockedFrame<'_>,
        of: OwnerId,
    ) -> Result<Committed, MigrateError<'z>> {
        self.commit_if(from, |owner| owner == of)
    }

    fn commit_if(
        self,
        from: &LockedFrame<'_>,
        may: impl Fn(OwnerId) -> bool,
    ) -> Result<Committed, MigrateError<'z>> {
        let allocator = from.allocator();
        if !self.is_fresh_in(allocator) {
            return Err(MigrateError::Failed(self));
        }
        let frames = &allocator.tables.frames;
        let before = frames.update(from.pfn(), |state| {
            state.owner().filter(|&owner| may(owner))?;
            // The isolation's own reference stays, so this is never the last one.
            state.without_owner().without_reference()
        });
        let Some(owner) = before.and_then(State::owner) else {
            return Err(match frames.state(from.pfn()).owner() {
                Some(_) => MigrateError::Failed(self),
                None => MigrateError::Gone(self),
            });
        };
        let mut target = std::mem::ManuallyDrop::new(self);
        let to = target.pfn;
        from.committed.replace(Some(std::mem::take(&mut target.in_flight)));
        if let Some((private, position)) = frames.private(from.pfn()) {
            frames.set_private(to, private, position);
        }
        frames.change(to, State::FROZEN, State::published(owner));
        if let Some(lru) = &from.lru {
            // In the owner's critical section, so it cannot have released the new frame yet. The
            // old one is on no list and stays off (S-37).
            lru.put_back(allocator, to);
        }
        Ok(Committed { to })
    }
}

impl Drop for Target<'_> {
    /// Returns the frame to the buddy lists, where the free scanner finds it again. The OS is not
    /// called: owners drop targets with locks held.
    fn drop(&mut self) {
        self.allocator.put_migrated(self.pfn, std::mem::take(&mut self.in_flight));
    }
}

impl Committed {
    /// Returns the new frame's number.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.to
    }
}
