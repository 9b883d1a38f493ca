//! Freeing: forget the object now, give frames back as soon as nobody looks at them.
//!
//! A free flips bits under the class lock and touches no cold memory. Bytes of a freed object stay as they are while a reader is inside its
//! chain, because using them again needs the chain exclusively. If somebody is inside when frames could go, a mark is left and the last
//! to leave calls [`Pool::free_deferred`] (deferred free: ).

use frames::{ChainId, Exclusive};

use crate::class::SizeClass;
use crate::handle::Handle;
use crate::hold_time::ClassGuard;
use crate::object::ObjectSlot;
use crate::pool::{ClassState, Pool};
use crate::zspage::frames_of;
use crate::{AccessError, SizeClasses};

impl Pool {
    /// Frees an object and returns how long it was. Never waits for a reader.
    ///
    /// # Errors
    /// [`AccessError::Stale`] when it was freed before: a double free changes nothing.
    pub fn free(&self, handle: Handle) -> Result<usize, AccessError> {
        let (slot, mut state) = self.lock_object(handle)?;
        let len = self.handles.len_of(handle);
        self.handles.invalidate(handle);
        state.live_bytes -= len as u64;
        let kept = self.free_object(&mut state, slot);
        drop(state);
        self.handles.free_index(handle);
        self.zspages.chains().release_excess_if_due();
        kept.map(|()| len)
    }

    /// Starts loading the handle's location word, for whoever is going to read or free the object in a while. Only a hint.
    pub fn prefetch(&self, handle: Handle) {
        self.handles.prefetch(handle);
    }

    /// Starts loading the records of the object's zspage, too. Worth it some hundred nanoseconds after [`Pool::prefetch`]. Only a hint.
    pub fn prefetch_zspage(&self, handle: Handle) {
        if let Ok(location) = self.handles.locate(handle) {
            self.zspages.chains().prefetch(location.chain());
        }
    }

    /// Finds an object and locks its class: until the lock is dropped it stays where it is.
    pub(crate) fn lock_object(
        &self,
        handle: Handle,
    ) -> Result<(ObjectSlot, ClassGuard<'_>), AccessError> {
        let mut retries = 0;
        loop {
            self.note_retry(&mut retries)?;
            let location = self.handles.locate(handle)?;
            // The chain may end between the two loads, when compaction has moved the object: then the word has changed, too.
            let class = self
                .zspages
                .chains()
                .tag(location.chain())
                .and_then(|tag| self.classes.by_index(tag));
            let Some(class) = class else { continue };
            let state = self.lock(class);
            let still = self.handles.locate(handle)? == location
                && self.zspages.chains().tag(location.chain()) == Some(class.index);
            if still {
                return Ok((
                    ObjectSlot { chain: location.chain(), object: location.object(), class },
                    state,
                ));
            }
        }
    }

    /// Counts a look at an object that turned out to be on the move. Nobody moves a million times during one call: then the tables contradict
    /// themselves, and spinning on would be the end of this thread (S-24).
    pub(crate) fn note_retry(&self, retries: &mut u32) -> Result<(), AccessError> {
        if *retries > 0 {
            sync::relax(*retries);
        }
        *retries += 1;
        if *retries > 1 << 20 {
            self.poison();
        }
        self.check_poison()
    }

    /// Clears the slot's bit and gives back what that leaves empty. The class is locked, and the location word no longer names the slot.
    pub(crate) fn free_object(
        &self,
        state: &mut ClassState,
        slot: ObjectSlot,
    ) -> Result<(), AccessError> {
        let emptied = self.clear_object(state, slot)?;
        self.fix_fullness_group(state, slot.chain, slot.class);
        if emptied > 0 {
            self.release_empty_frames(state, slot.chain, slot.class);
        }
        Ok(())
    }

    /// Puts a zspage on the list its use asks for (INV-POOL-4). The class is locked.
    pub(crate) fn fix_fullness_group(
        &self,
        state: &mut ClassState,
        chain: ChainId,
        class: SizeClass,
    ) {
        if let Some(head) = self.zspages.head(chain) {
            state.fix_fullness_group(&self.zspages, chain, class, head);
        }
    }

    /// As [`Pool::free_object`], but leaves the list and the frames to the caller: how many of them hold no object any more.
    pub(crate) fn clear_object(
        &self,
        state: &mut ClassState,
        slot: ObjectSlot,
    ) -> Result<u64, AccessError> {
        let ObjectSlot { chain, object, class } = slot;
        let head =
            self.zspages.head(chain).filter(|head| head.class == class.index && head.used > 0);
        let Some(mut head) = head.filter(|_| self.zspages.is_live(chain, object)) else {
            self.poison();
            return Err(AccessError::Poisoned);
        };
        self.zspages.set_free(chain, object);
        head.used -= 1;
        self.zspages.set_head(chain, head);
        state.used -= 1;
        let empty = |&position: &usize| self.zspages.frame_is_empty(chain, class, position);
        Ok(frames_of(class, object).filter(empty).count() as u64)
    }

    /// Gives the empty frames of a zspage back, the zspage itself when it is empty; leaves a mark when somebody is inside. The class is locked.
    pub(crate) fn release_empty_frames(
        &self,
        state: &mut ClassState,
        chain: ChainId,
        class: SizeClass,
    ) {
        loop {
            if let Some(held) = self.zspages.chains().try_exclusive(chain) {
                return self.release_empty_frames_held(state, held, class);
            }
            if self.zspages.chains().mark_pending(chain) {
                return;
            }
        }
    }

    pub(crate) fn release_empty_frames_held(
        &self,
        state: &mut ClassState,
        mut held: Exclusive<'_>,
        class: SizeClass,
    ) {
        // Marks are made under the class lock, which we hold, so none can be lost here.
        held.take_pending();
        let chain = held.id();
        self.detach_empty_frames(&mut held, class, 0..=usize::from(class.frames) - 1, state);
        let Some(head) = self.zspages.head(chain).filter(|head| head.used == 0) else {
            let _ = held.release();
            return;
        };
        state.lists[head.group.index()].remove(&self.zspages, chain);
        state.zspages -= 1;
        self.zspages.clear_record(chain);
        held.destroy();
    }

    /// Detaches those of the frames at `positions` that hold no byte of a live object.
    pub(crate) fn detach_empty_frames(
        &self,
        held: &mut Exclusive<'_>,
        class: SizeClass,
        positions: std::ops::RangeInclusive<usize>,
        state: &mut ClassState,
    ) {
        for position in positions {
            if held.has_frame(position) && self.zspages.frame_is_empty(held.id(), class, position) {
                held.detach(position);
                state.frames -= 1;
                self.frames.dec();
            }
        }
    }

    /// Does what could not be done while somebody was inside the chain. Called without any lock held, by whoever was told to.
    pub(crate) fn free_deferred(&self, chain: ChainId) {
        loop {
            let Some(class) = self.class_of(chain) else { return };
            let mut state = self.lock(class);
            if self.class_of(chain) != Some(class) {
                continue;
            }
            // The number may name a younger zspage by now, which is no worse for having its empty frames looked for.
            self.release_empty_frames(&mut state, chain, class);
            drop(state);
            return self.zspages.chains().release_excess_if_due();
        }
    }

    fn class_of(&self, chain: ChainId) -> Option<SizeClass> {
        self.zspages.chains().tag(chain).and_then(|tag| SizeClasses::by_index(&self.classes, tag))
    }
}
