//! Owners of movable frames and their numbers.

use std::num::NonZeroU8;
use std::sync::{Arc, Weak};

use sync::Mutex;
use sync::atomic::{AtomicBool, Ordering};
use thiserror::Error;

use super::MovableOps;
use crate::descriptor::Put;
use crate::frame::Frame;
use crate::lru::Lru;
use crate::state::{OwnerId, State};
use crate::units::{MigrateType, Pfn};
use crate::zone::Zone;

/// The most owners a zone can have at once.
const OWNERS: usize = if cfg!(loom) { 2 } else { 255 };

/// Whether frames of registered owners move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Movability {
    /// Frames of registered owners can be moved.
    #[default]
    On,
    /// Owners get unmovable frames and nothing moves. For comparison.
    Off,
}

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

/// The owners of a zone, by number.
#[derive(Debug)]
pub(crate) struct Registry {
    slots: Box<[Mutex<OwnerSlot>]>,
    /// The owners whose frames are in chains.
    chain_owners: Box<[AtomicBool]>,
}

#[derive(Clone, Debug, Default)]
enum OwnerSlot {
    #[default]
    Vacant,
    /// The number is taken, but the owner cannot be called yet (L-05: publish last).
    Reserved,
    Published(Weak<dyn MovableOps>),
}

impl Registry {
    /// Creates a registry without owners.
    pub(crate) fn new() -> Self {
        Self {
            slots: (0..OWNERS)
                .map(|_| Mutex::ranked(sync::Rank::Leaf, OwnerSlot::Vacant))
                .collect(),
            chain_owners: (0..OWNERS).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    fn reserve(&self) -> Option<OwnerId> {
        self.slots.iter().zip(1..=u8::MAX).find_map(|(slot, number)| {
            let mut slot = slot.lock();
            matches!(*slot, OwnerSlot::Vacant).then(|| *slot = OwnerSlot::Reserved)?;
            NonZeroU8::new(number).map(OwnerId)
        })
    }

    fn put(&self, id: OwnerId, now: OwnerSlot) {
        *self.slots[usize::from(id.0.get()) - 1].lock() = now;
    }

    /// Returns the callbacks of an owner, or `None` when it is not published yet or is gone (F6).
    pub(crate) fn ops(&self, id: OwnerId) -> Option<Arc<dyn MovableOps>> {
        // The lock is held for the copy only, never during a callback.
        let slot = self.slots.get(usize::from(id.0.get()) - 1)?.lock().clone();
        if let OwnerSlot::Published(ops) = slot { ops.upgrade() } else { None }
    }

    /// Returns whether the owner's frames are in chains. Only the chain may replace such a frame.
    pub(crate) fn is_chain_owner(&self, id: OwnerId) -> bool {
        // Relaxed: set before the owner's first frame is published, and the reader has seen the
        // owner in a frame's state (Acquire).
        self.chain_owners
            .get(usize::from(id.0.get()) - 1)
            .is_some_and(|mark| mark.load(Ordering::Relaxed))
    }

    fn set_chain_owner(&self, id: OwnerId, now: bool) {
        // Relaxed: as above; cleared when no chain of the owner is left.
        self.chain_owners[usize::from(id.0.get()) - 1].store(now, Ordering::Relaxed);
    }

    /// Returns the memory of the registry, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.slots) + size_of_val(&*self.chain_owners)
    }
}

/// A registered owner of movable frames. Dropping it ends the registration.
///
/// Dropping it waits for nothing (L-03, S-32, B10). The owner has released its frames before, so
/// migration finds a frame that is isolated at that moment ownerless and frees it. A running
/// callback keeps the owner's value alive until it returns.
#[derive(Debug)]
pub struct Owner {
    zone: Arc<Zone>,
    id: OwnerId,
    lru: Option<Lru>,
    movability: Movability,
}

impl Zone {
    /// Registers an owner and publishes its callbacks.
    ///
    /// # Errors
    /// [`OwnersExhausted`] when all numbers are taken.
    pub fn register(self: &Arc<Self>, ops: Weak<dyn MovableOps>) -> Result<Owner, OwnersExhausted> {
        let owner = self.reserve_owner()?;
        owner.publish(ops);
        Ok(owner)
    }

    /// Reserves a number for an owner that is still being built. It can make frames movable at
    /// once; its callbacks run only after [`Owner::publish`].
    ///
    /// # Errors
    /// [`OwnersExhausted`] when all numbers are taken.
    pub fn reserve_owner(self: &Arc<Self>) -> Result<Owner, OwnersExhausted> {
        let id = self.registry.reserve().ok_or(OwnersExhausted)?;
        Ok(Owner { zone: Arc::clone(self), id, lru: None, movability: self.movability })
    }

    /// Reserves a number as [`Zone::reserve_owner`] does, for an owner whose frames never move
    /// although those of other owners do: zsmalloc before the kernel could migrate its pages. For
    /// comparison.
    ///
    /// # Errors
    /// [`OwnersExhausted`] when all numbers are taken.
    pub fn reserve_pinned_owner(self: &Arc<Self>) -> Result<Owner, OwnersExhausted> {
        let mut owner = self.reserve_owner()?;
        owner.movability = Movability::Off;
        Ok(owner)
    }

    /// Reserves a number as [`Zone::reserve_owner`] does, with LRU lists for the owner's frames.
    ///
    /// # Errors
    /// [`OwnersExhausted`] when all numbers are taken.
    pub fn reserve_lru_owner(self: &Arc<Self>) -> Result<Owner, OwnersExhausted> {
        let mut owner = self.reserve_owner()?;
        owner.lru = Some(Lru::new(Arc::clone(self), owner.id));
        Ok(owner)
    }
}

impl Owner {
    /// Returns the number, which the state word of each of the owner's frames holds.
    #[must_use]
    pub fn id(&self) -> OwnerId {
        self.id
    }

    /// Returns the zone that the frames come from.
    #[must_use]
    pub fn zone(&self) -> &Arc<Zone> {
        &self.zone
    }

    /// Returns the LRU lists, or `None` when the owner was registered without them.
    #[must_use]
    pub fn lru(&self) -> Option<&Lru> {
        self.lru.as_ref()
    }

    /// Publishes the callbacks: from here on migration may call them. Does nothing when the
    /// owner's frames are pinned.
    pub fn publish(&self, ops: Weak<dyn MovableOps>) {
        if self.movability == Movability::On || self.zone.movability == Movability::Off {
            self.zone.registry.put(self.id, OwnerSlot::Published(ops));
        }
    }

    /// Marks the owner's frames as frames of chains. [`Target::commit`](super::Target::commit)
    /// refuses them from here on: only the holder of a chain's exclusive guard may change its
    /// frames.
    pub(crate) fn mark_chain_owner(&self) {
        self.zone.registry.set_chain_owner(self.id, true);
    }

    /// Returns the migrate type to allocate with. Frames that are going to be movable share
    /// pageblocks with movable ones, unless the owner is pinned (B14).
    #[must_use]
    pub fn migrate_type(&self) -> MigrateType {
        match self.movability {
            Movability::On => MigrateType::Movable,
            Movability::Off => MigrateType::Unmovable,
        }
    }

    /// Makes a frame movable and the owner's. The frame's reference becomes the owner's.
    /// `private` and `position` are for the owner's own use; callbacks read them with
    /// [`LockedFrame::private`](super::LockedFrame::private).
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
        let (pfn, frames) = (frame.pfn(), &self.zone.tables.frames);
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

    /// Stores `private` and `position` for a frame that is about to become movable.
    pub(crate) fn set_private(&self, pfn: Pfn, private: u32, position: u8) {
        self.zone.tables.frames.set_private(pfn, private, position);
    }

    /// Publishes a frozen frame whose private value is set. From here on it may be isolated,
    /// unless nothing moves in this zone.
    pub(crate) fn publish_frame(&self, pfn: Pfn) {
        self.zone.tables.frames.change(pfn, State::FROZEN, State::published(self.id));
    }

    /// Releases a frame: one update of the state word clears its owner and puts the owner's
    /// reference. The frame is free now, or as soon as another thread that isolated it puts its
    /// reference.
    ///
    /// Locking: takes a per-CPU list. The OS is not called: see [`Zone::release_excess_if_due`].
    ///
    /// # Panics
    /// When the frame is not this owner's (any more).
    pub fn release(&self, pfn: Pfn) {
        let left = self.lru.as_ref().map_or_else(
            || self.zone.tables.frames.clear_movable(pfn, self.id),
            |lru| lru.clear_movable(pfn),
        );
        match left {
            Some(Put::Shared) => {}
            Some(Put::Last(_)) => self.zone.free_to_cpu_list(pfn),
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
        match &self.lru {
            Some(lru) => lru.reclaim_from_owner(pfn, reclaim)?,
            None => _ = self.zone.tables.frames.update(pfn, reclaim)?,
        }
        Some(self.zone.frame_from_pfn(pfn))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.zone.registry.set_chain_owner(self.id, false);
        self.zone.registry.put(self.id, OwnerSlot::Vacant);
    }
}
