//! Owners of movable frames and the numbers they go by.

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

/// Owners a zone can have at once.
const OWNERS: usize = if cfg!(loom) { 2 } else { 255 };

/// Whether frames of registered owners move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Movability {
    /// They do.
    #[default]
    On,
    /// Owners get unmovable frames, and nothing ever moves: how the kernel was before. For comparison.
    Off,
}

/// All numbers for owners are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the zone has {OWNERS} owners of movable frames and no number for another")]
pub struct OwnersExhausted;

/// Why an owner did not get a frame. The frame is given back, and nothing else has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SetMovableError {
    /// It is of another zone.
    #[error("{pfn} is a frame of another zone")]
    OtherZone {
        /// The frame.
        pfn: Pfn,
    },
    /// It has an owner already, is no single frame, or another thread holds its page lock.
    #[error("{pfn} has an owner already, is part of a block, or is locked")]
    Taken {
        /// The frame.
        pfn: Pfn,
    },
    /// The last number means "no private value".
    #[error("{private} is reserved and cannot be the private value of a frame")]
    Private {
        /// The value passed.
        private: u32,
    },
}

/// The owners of a zone, by number.
#[derive(Debug)]
pub(crate) struct Registry {
    slots: Box<[Mutex<OwnerSlot>]>,
    /// Whose frames are in chains.
    chain_owners: Box<[AtomicBool]>,
}

#[derive(Clone, Debug, Default)]
enum OwnerSlot {
    #[default]
    Vacant,
    /// Somebody has the number and is not ready to be called yet (L-05: publish last).
    Reserved,
    Published(Weak<dyn MovableOps>),
}

impl Registry {
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

    /// What to call for a frame of this owner; `None` when it is not ready yet, or gone (F6).
    pub(crate) fn ops(&self, id: OwnerId) -> Option<Arc<dyn MovableOps>> {
        // The lock is held for the copy only, never during a call.
        let slot = self.slots.get(usize::from(id.0.get()) - 1)?.lock().clone();
        if let OwnerSlot::Published(ops) = slot { ops.upgrade() } else { None }
    }

    /// Whether the frames of this owner are in chains, which alone may hand them over.
    pub(crate) fn is_chain_owner(&self, id: OwnerId) -> bool {
        // Relaxed: set before the owner's first frame is published, and a thread that asks has seen the owner in a frame's state (Acquire).
        self.chain_owners
            .get(usize::from(id.0.get()) - 1)
            .is_some_and(|mark| mark.load(Ordering::Relaxed))
    }

    fn set_chain_owner(&self, id: OwnerId, now: bool) {
        // Relaxed: as above; it is cleared when no chain of the owner is left.
        self.chain_owners[usize::from(id.0.get()) - 1].store(now, Ordering::Relaxed);
    }

    /// Memory of the registry, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.slots) + size_of_val(&*self.chain_owners)
    }
}

/// A registered owner of movable frames. Dropping it ends the registration.
///
/// Nothing has to be waited for when it ends (L-03, S-32, B10). A frame that is isolated just then was let go of before, so migration finds
/// it ownerless and frees it. A callback under way holds the owner's value alive until it returns.
#[derive(Debug)]
pub struct Owner {
    zone: Arc<Zone>,
    id: OwnerId,
    lru: Option<Lru>,
    movability: Movability,
}

impl Zone {
    /// Registers an owner.
    ///
    /// # Errors
    /// [`OwnersExhausted`].
    pub fn register(self: &Arc<Self>, ops: Weak<dyn MovableOps>) -> Result<Owner, OwnersExhausted> {
        let owner = self.reserve_owner()?;
        owner.publish(ops);
        Ok(owner)
    }

    /// Takes a number for an owner that is still being made. It can adopt frames already; nobody calls it before [`Owner::publish`].
    ///
    /// # Errors
    /// [`OwnersExhausted`].
    pub fn reserve_owner(self: &Arc<Self>) -> Result<Owner, OwnersExhausted> {
        let id = self.registry.reserve().ok_or(OwnersExhausted)?;
        Ok(Owner { zone: Arc::clone(self), id, lru: None, movability: self.movability })
    }

    /// As [`Zone::reserve_owner`], for an owner whose frames never move, while those of others do:
    /// as zsmalloc's were before the kernel could migrate them. For comparison.
    ///
    /// # Errors
    /// [`OwnersExhausted`].
    pub fn reserve_pinned_owner(self: &Arc<Self>) -> Result<Owner, OwnersExhausted> {
        let mut owner = self.reserve_owner()?;
        owner.movability = Movability::Off;
        Ok(owner)
    }

    /// As [`Zone::reserve_owner`], with LRU lists for the frames.
    ///
    /// # Errors
    /// [`OwnersExhausted`].
    pub fn reserve_lru_owner(self: &Arc<Self>) -> Result<Owner, OwnersExhausted> {
        let mut owner = self.reserve_owner()?;
        owner.lru = Some(Lru::new(Arc::clone(self), owner.id));
        Ok(owner)
    }
}

impl Owner {
    /// The number, which stands in the state of each frame the owner has.
    #[must_use]
    pub fn id(&self) -> OwnerId {
        self.id
    }

    /// The zone the frames come from.
    #[must_use]
    pub fn zone(&self) -> &Arc<Zone> {
        &self.zone
    }

    /// The LRU lists, if it was registered with some.
    #[must_use]
    pub fn lru(&self) -> Option<&Lru> {
        self.lru.as_ref()
    }

    /// From here on the owner is called, unless its frames are pinned: then nobody has anything to
    /// ask.
    pub fn publish(&self, ops: Weak<dyn MovableOps>) {
        if self.movability == Movability::On || self.zone.movability == Movability::Off {
            self.zone.registry.put(self.id, OwnerSlot::Published(ops));
        }
    }

    /// From here on the owner's frames are in chains: [`Target::commit`](super::Target::commit) refuses them, since only who holds the chain alone may
    /// change which frames it has.
    pub(crate) fn mark_chain_owner(&self) {
        self.zone.registry.set_chain_owner(self.id, true);
    }

    /// What to ask the zone for: frames that are going to be adopted share pageblocks with movable
    /// ones, unless they never move (B14).
    #[must_use]
    pub fn migrate_type(&self) -> MigrateType {
        match self.movability {
            Movability::On => MigrateType::Movable,
            Movability::Off => MigrateType::Unmovable,
        }
    }

    /// Takes a frame over. The owner keeps the number as its reference; `private` and `position` are its own notes, which a callback reads back from
    /// [`LockedFrame::private`](super::LockedFrame::private).
    ///
    /// Call it when the owner's own records are complete: from here on the frame may be isolated.
    ///
    /// # Errors
    /// [`SetMovableError`].
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
        if frames.freeze(pfn) {
            self.set_private(frame.into_pfn(), private, position);
            self.publish_frame(pfn);
            return Ok(pfn);
        }
        // Others have references, and one of them may be adopting it, too. Its page lock is taken first: until the name is written it is not isolated.
        let free = |state: State| (!state.is_locked() && !state.is_isolated()).then_some(state);
        let claim = |state: State| Some(free(state)?.owned_by(self.id)?.locked());
        frames.update(pfn, claim).ok_or(SetMovableError::Taken { pfn })?;
        self.set_private(frame.into_pfn(), private, position);
        frames.update(pfn, |state| Some(state.unlocked()));
        Ok(pfn)
    }

    /// Notes what the owner calls a frame it is about to adopt.
    pub(crate) fn set_private(&self, pfn: Pfn, private: u32, position: u8) {
        self.zone.tables.frames.set_private(pfn, private, position);
    }

    /// Publishes a frozen frame whose name is set. From here on it may be isolated, unless nothing moves in this zone.
    pub(crate) fn publish_frame(&self, pfn: Pfn) {
        self.zone.tables.frames.change(pfn, State::FROZEN, State::published(self.id));
    }

    /// Lets go of a frame: it is no longer movable and the owner's reference is given back, in one step. The frame is free now, or as soon as
    /// whoever isolated it lets go, too.
    ///
    /// Locking: a per-CPU list. The OS is not called: see [`Zone::release_excess_if_due`].
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
            // Going on would free somebody else's frame under him.
            None => panic!("{pfn} is not its owner's to release"),
        }
    }

    /// Takes a frame back out of everybody's reach; `None` while it is isolated or its page lock is held: pass it over (R-154, S-39). `None` for a frame
    /// of somebody else's, too.
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
