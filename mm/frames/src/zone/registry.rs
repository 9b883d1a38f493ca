//! The owners of movable frames, by number.

use std::num::NonZeroU8;
use std::sync::{Arc, Weak};

use sync::Mutex;
use sync::atomic::{AtomicBool, Ordering};

use super::locked::ReplacedBy;
use super::lru::LruLists;
use super::ops::MovableOps;
use crate::page::OwnerId;

/// The most owners a zone can have at once.
pub(crate) const OWNERS: usize = if cfg!(loom) { 2 } else { 255 };

/// The owners of a zone.
#[derive(Debug)]
pub(crate) struct Registry {
    slots: Box<[Mutex<OwnerSlot>]>,
    /// The owners whose frames are in chains.
    chain_owners: Box<[AtomicBool]>,
}

#[derive(Clone, Debug)]
enum OwnerSlot {
    Vacant,
    /// The number is taken, but the owner cannot be called yet (L-05: publish last).
    Reserved,
    Published(Arc<PublishedOwner>),
}

#[derive(Debug)]
struct PublishedOwner {
    ops: Weak<dyn MovableOps>,
    lru: Option<Arc<LruLists>>,
}

/// How to reach a published owner.
#[derive(Debug)]
pub(crate) struct Callbacks {
    pub(crate) ops: Arc<dyn MovableOps>,
    /// The LRU lists of the owner's frames, if they are on any.
    pub(crate) lru: Option<Arc<LruLists>>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        let vacant = |_| Mutex::ranked(sync::Rank::Leaf, OwnerSlot::Vacant);
        Self {
            slots: (0..OWNERS).map(vacant).collect(),
            chain_owners: (0..OWNERS).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// Reserves a number; `None` when all are taken.
    pub(crate) fn reserve(&self) -> Option<OwnerId> {
        self.slots.iter().zip(1..=u8::MAX).find_map(|(slot, number)| {
            let mut slot = slot.lock();
            matches!(*slot, OwnerSlot::Vacant).then(|| *slot = OwnerSlot::Reserved)?;
            NonZeroU8::new(number).map(OwnerId)
        })
    }

    /// Publishes the callbacks of an owner, and the lists of its frames.
    pub(crate) fn publish(
        &self,
        id: OwnerId,
        ops: Weak<dyn MovableOps>,
        lru: Option<Arc<LruLists>>,
    ) {
        *self.slot(id).lock() = OwnerSlot::Published(Arc::new(PublishedOwner { ops, lru }));
    }

    /// Frees the number of an owner that is gone.
    pub(crate) fn vacate(&self, id: OwnerId) {
        self.set_replaced_by(id, ReplacedBy::Owner);
        *self.slot(id).lock() = OwnerSlot::Vacant;
    }

    fn slot(&self, id: OwnerId) -> &Mutex<OwnerSlot> {
        &self.slots[usize::from(id.0.get()) - 1]
    }

    /// Returns the callbacks of an owner, or `None` when it is not published yet or is gone (F6).
    pub(crate) fn callbacks(&self, id: OwnerId) -> Option<Callbacks> {
        // The lock is held for the copy only, never during a callback.
        let slot = self.slot(id).lock().clone();
        let OwnerSlot::Published(owner) = slot else { return None };
        Some(Callbacks { ops: owner.ops.upgrade()?, lru: owner.lru.clone() })
    }

    /// Returns which call may replace frames of an owner.
    pub(crate) fn replaced_by(&self, id: OwnerId) -> ReplacedBy {
        // Relaxed: set before a frame of the owner is published, and read after (Acquire).
        let in_chains = self.chain_owners[usize::from(id.0.get()) - 1].load(Ordering::Relaxed);
        if in_chains { ReplacedBy::Chain } else { ReplacedBy::Owner }
    }

    pub(crate) fn set_replaced_by(&self, id: OwnerId, by: ReplacedBy) {
        // Relaxed: as above; an owner without chains may be replaced by its callback again.
        let mark = &self.chain_owners[usize::from(id.0.get()) - 1];
        mark.store(by == ReplacedBy::Chain, Ordering::Relaxed);
    }

    /// Returns the memory of the registry, in bytes.
    pub(crate) fn bytes() -> usize {
        OWNERS * (size_of::<Mutex<OwnerSlot>>() + size_of::<AtomicBool>())
    }
}
