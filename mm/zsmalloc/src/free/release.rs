//! What a free changes under the class lock: the object's bit, and frames and zspages that are
//! empty then.

use std::ops::RangeInclusive;

use frames::{ChainId, Exclusive};

use crate::error::AccessError;
use crate::object::ObjectSlot;
use crate::pool::LockedClass;

impl LockedClass<'_> {
    /// Clears the slot's bit and frees the frames that this leaves empty. The location word no
    /// longer names the slot. `len` is the object's length.
    pub(crate) fn free_object(&mut self, slot: ObjectSlot, len: usize) -> Result<(), AccessError> {
        let emptied = self.clear_object(slot, len)?;
        self.fix_fullness_group(slot.chain);
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
        Ok(slot.frames().filter(empty).count() as u64)
    }

    /// Frees the empty frames of a zspage, and the zspage itself when it is empty. Leaves a
    /// pending mark when its chain is held.
    pub(crate) fn release_empty_frames(&mut self, chain: ChainId) {
        let chains = self.pool.zspages.chains();
        loop {
            if let Some(held) = chains.try_exclusive(chain) {
                return self.release_empty_frames_held(held);
            }
            if chains.mark_pending(chain) {
                return;
            }
        }
    }

    /// Frees like [`LockedClass::release_empty_frames`], for a chain that the caller holds
    /// exclusively.
    fn release_empty_frames_held(&mut self, mut held: Exclusive<'_>) {
        // Marks are set under the class lock, which is held, so none is lost here.
        held.take_pending();
        let (zspages, chain) = (&self.pool.zspages, held.id());
        self.detach_empty_frames(&mut held, 0..=usize::from(self.class().frames) - 1);
        let Some(head) = zspages.head(chain).filter(|head| head.used == 0) else {
            let _ = held.release();
            return;
        };
        self.zspage_removed(zspages, chain, head.group);
        held.destroy();
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
