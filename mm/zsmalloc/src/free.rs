//! Freeing: clear the object at once, free its frames as soon as no reader holds them.
//!
//! A free changes bits under the class lock and touches no cold memory. The bytes of a freed
//! object stay while a reader holds its chain, because reusing them needs the chain exclusively.
//! If the chain is held when frames could be freed, the free leaves a pending mark, and the last
//! holder to leave calls [`free_deferred`] (deferred free: ).

use std::ops::RangeInclusive;

use frames::{ChainId, Exclusive, ReleaseStatus};

use crate::error::AccessError;
use crate::handle::Handle;
use crate::locate::{lock_class_of, lock_object};
use crate::object::ObjectSlot;
use crate::pool::{LockedClass, Pool};

impl Pool {
    /// Frees an object and returns its length. Units: bytes. Never waits for a reader.
    ///
    /// # Errors
    /// - [`AccessError::Stale`] when the object was freed before: a double free changes nothing
    ///
    /// - [`AccessError::Poisoned`] when the pool is poisoned.
    pub fn free(&self, handle: Handle) -> Result<usize, AccessError> {
        let (slot, mut class) = lock_object(self, handle)?;
        let len = self.handles.len_of(handle);
        self.handles.invalidate(handle);
        let freed = class.free_object(slot, len);
        drop(class);
        self.handles.free_index(handle);
        self.zspages.chains.release_excess_if_due();
        freed.map(|()| len)
    }
}

/// Does the deferred free of a chain if releasing it returned a pending mark: frees its empty
/// frames, and the zspage itself when it is empty. The caller holds no class lock.
pub(crate) fn free_deferred(pool: &Pool, chain: ChainId, leaving: ReleaseStatus) {
    if leaving != ReleaseStatus::Pending {
        return;
    }
    // The number may name a newer zspage by now. Freeing that zspage's empty frames does no harm.
    if let Some(mut class) = lock_class_of(pool, chain) {
        class.release_empty_frames(chain);
        drop(class);
        pool.zspages.chains.release_excess_if_due();
    }
}

impl LockedClass<'_> {
    /// Clears the slot's bit and frees the frames that this leaves empty. The location word no
    /// longer names the slot. `len` is the object's length.
    pub(crate) fn free_object(&mut self, slot: ObjectSlot, len: usize) -> Result<(), AccessError> {
        let zspages = &self.pool.zspages;
        let emptied = self.clear_object(slot, len)?;
        self.fix_fullness_group(zspages, slot.chain);
        if emptied > 0 {
            self.release_empty_frames(slot.chain);
        }
        Ok(())
    }

    /// Clears like [`LockedClass::free_object`], but leaves the list and the frames to the caller.
    /// Returns how many of the object's frames are empty now.
    pub(crate) fn clear_object(
        &mut self,
        slot: ObjectSlot,
        len: usize,
    ) -> Result<u64, AccessError> {
        let ObjectSlot { chain, object, class } = slot;
        let zspages = &self.pool.zspages;
        let head = zspages.head(chain).filter(|head| head.class == class.index && head.used > 0);
        let Some(mut head) = head.filter(|_| zspages.is_live(chain, object)) else {
            self.pool.poison();
            return Err(AccessError::Poisoned);
        };
        zspages.set_free(chain, object);
        head.used -= 1;
        zspages.set_head(chain, head);
        self.object_removed(len);
        let empty = |&position: &usize| zspages.frame_is_empty(chain, class, position);
        Ok(class.frames_of(object).filter(empty).count() as u64)
    }

    /// Frees a zspage's empty frames, and itself if empty, or leaves a pending mark if it is held.
    pub(crate) fn release_empty_frames(&mut self, chain: ChainId) {
        let zspages = &self.pool.zspages;
        let mut held = loop {
            if let Some(held) = zspages.chains.try_exclusive(chain) {
                break held;
            }
            if zspages.chains.mark_pending(chain) {
                return;
            }
        };
        // Marks are set under the class lock, which is held, so none is lost here.
        held.take_pending();
        self.detach_empty_frames(&mut held, 0..=usize::from(self.class().frames) - 1);
        if let Some(head) = zspages.head(chain).filter(|head| head.used == 0) {
            self.zspage_removed(zspages, chain, head.group);
            held.destroy();
        }
    }

    /// Detaches the frames at `positions` that hold no byte of a live object.
    pub(crate) fn detach_empty_frames(
        &mut self,
        held: &mut Exclusive<'_>,
        positions: RangeInclusive<usize>,
    ) {
        let (pool, class) = (self.pool, self.class());
        for position in positions {
            if held.has_frame(position) && pool.zspages.frame_is_empty(held.id(), class, position) {
                held.detach(position);
                self.frame_detached(&pool.frames);
            }
        }
    }
}
