//! Owners of movable frames and their numbers.

use std::sync::{Arc, Weak};

use thiserror::Error;

use crate::page::{OwnerId, Put, State};
use crate::units::{MigrateType, Pfn};
use crate::zone::{Frame, Lru, LruLists, Movability, MovableOps, OWNERS, ReplacedBy, Zone};

/// All owner numbers are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("all {OWNERS} owner numbers of the zone are taken")]
pub struct OwnersExhausted;

/// Why a frame did not become movable. The frame is freed, and nothing else has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SetMovableError {
    /// The frame belongs to another zone.
    #[error("{pfn} belongs to another zone")]
    OtherZone {
        /// The frame.
        pfn: Pfn,
    },
    /// The frame already has an owner, is part of a block, or another thread holds its page lock.
    #[error("{pfn} already has an owner, is part of a block, or is locked")]
    Taken {
        /// The frame.
        pfn: Pfn,
    },
    /// The private value is the one that means "none".
    #[error("the private value {private} is reserved: it must be below {private}")]
    Private {
        /// The value passed.
        private: u32,
    },
}

/// A registered owner of movable frames. Dropping it ends the registration.
///
/// It waits for nothing (L-03, S-32, B10). The owner has released its frames before, so migration
/// finds an isolated one ownerless and frees it. A running callback keeps the owner's value alive.
#[derive(Debug)]
pub struct Owner {
    zone: Arc<Zone>,
    id: OwnerId,
    lru: Option<Arc<LruLists>>,
    movability: Movability,
}

impl Owner {
    /// Reserves a number for an owner whose frames move as `movability` says.
    pub(super) fn reserve(
        zone: &Arc<Zone>,
        movability: Movability,
    ) -> Result<Self, OwnersExhausted> {
        let id = zone.registry().reserve().ok_or(OwnersExhausted)?;
        Ok(Self { zone: Arc::clone(zone), id, lru: None, movability })
    }

    /// Adds LRU lists for the owner's frames.
    pub(super) fn with_lru(mut self) -> Self {
        self.lru = Some(Arc::new(LruLists::new(self.id)));
        self
    }

    /// Returns the number, which is in the state word of each of its frames.
    #[must_use]
    pub fn id(&self) -> OwnerId {
        self.id
    }

    /// Returns the zone that the frames come from.
    #[must_use]
    pub fn zone(&self) -> &Arc<Zone> {
        &self.zone
    }

    /// Returns the LRU lists, if it was registered with them.
    #[must_use]
    pub fn lru(&self) -> Option<Lru<'_>> {
        self.lru.as_ref().map(|lists| lists.with(&self.zone.tables().frames))
    }

    /// Publishes the callbacks: from here on migration may call them. Does nothing for pinned
    /// frames.
    pub fn publish(&self, ops: Weak<dyn MovableOps>) {
        if self.movability == Movability::On || !self.zone.moves_frames() {
            self.zone.registry().publish(self.id, ops, self.lru.clone());
        }
    }

    /// Marks the owner's frames as frames of chains: [`Target::commit`](crate::Target::commit)
    /// refuses them from here on.
    pub(crate) fn mark_chain_owner(&self) {
        self.zone.registry().set_replaced_by(self.id, ReplacedBy::Chain);
    }

    /// Returns the migrate type to allocate with (B14).
    #[must_use]
    pub fn migrate_type(&self) -> MigrateType {
        match self.movability {
            Movability::On => MigrateType::Movable,
            Movability::Off => MigrateType::Unmovable,
        }
    }

    /// Makes a frame movable and the owner's. The frame's reference becomes the owner's.
    /// `private` and `position` are for the owner's own use; callbacks read them with
    /// [`LockedFrame::private`](crate::LockedFrame::private).
    ///
    /// Call it when the owner's own records are complete: from here on the frame may be isolated
    ///
    ///
    /// # Errors
    /// [`SetMovableError`] when the frame cannot become movable. It is freed then.
    pub fn set_movable(
        &self,
        frame: Frame<'_>,
        private: u32,
        position: u8,
    ) -> Result<Pfn, SetMovableError> {
        let (pfn, frames) = (frame.pfn(), &self.zone.tables().frames);
        if !std::ptr::eq(frame.zone(), &*self.zone) {
            return Err(SetMovableError::OtherZone { pfn });
        }
        if private == u32::MAX {
            return Err(SetMovableError::Private { private });
        }
        // The only reference: no other thread can see the frame until it is published.
        if frames.freeze(pfn) {
            self.set_private(frame.into_pfn(), private, position);
            self.publish_frame(pfn);
            return Ok(pfn);
        }
        // Other threads hold references, and one of them may call this, too. The page lock
        // prevents isolation until `private` is written.
        let free = |state: State| (!state.is_locked() && !state.is_isolated()).then_some(state);
        let claim = |state: State| Some(free(state)?.owned_by(self.id)?.locked());
        frames.update(pfn, claim).ok_or(SetMovableError::Taken { pfn })?;
        self.set_private(frame.into_pfn(), private, position);
        frames.update(pfn, |state| Some(state.unlocked()));
        Ok(pfn)
    }

    pub(crate) fn set_private(&self, pfn: Pfn, private: u32, position: u8) {
        self.zone.tables().frames.set_private(pfn, private, position);
    }

    /// Publishes a frozen frame whose private value is set. From here on it may be isolated.
    pub(crate) fn publish_frame(&self, pfn: Pfn) {
        self.zone.tables().frames.change(pfn, State::FROZEN, State::published(self.id));
    }

    /// Releases a frame: one update of the state word clears its owner and puts the owner's
    /// reference. The frame is free now, or once a thread that isolated it puts its reference.
    ///
    /// Locking: takes a per-CPU list. The OS is not called: see [`Zone::release_excess_if_due`].
    ///
    /// # Panics
    /// When the frame is not this owner's (any more).
    pub fn release(&self, pfn: Pfn) {
        let left = match self.lru() {
            Some(lru) => lru.clear_movable(pfn),
            None => self.zone.tables().frames.clear_movable(pfn, self.id),
        };
        match left {
            Some(Put::Shared) => {}
            Some(Put::Last(_)) => self.zone.allocator().push(pfn),
            // Going on would free another owner's frame.
            None => panic!("{pfn} does not belong to the owner that releases it"),
        }
    }

    /// Makes a frame of this owner unmovable and returns it. Returns `None` while it is isolated
    /// or its page lock is held (R-154, S-39), and for a frame of another owner.
    #[must_use]
    pub fn reclaim_from_owner(&self, pfn: Pfn) -> Option<Frame<'_>> {
        let reclaim = |state: State| {
            (state.owner() == Some(self.id) && !state.is_locked() && !state.is_isolated())
                .then(|| state.without_owner())
        };
        match self.lru() {
            Some(lru) => lru.reclaim_from_owner(pfn, reclaim)?,
            None => _ = self.zone.tables().frames.update(pfn, reclaim)?,
        }
        Some(Frame::new(&self.zone, pfn))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.zone.registry().vacate(self.id);
    }
}
