//! Freeing: clear the object at once, free its frames as soon as no reader holds them.
//!
//! A free changes bits under the class lock and touches no cold memory. The bytes of a freed
//! object stay while a reader holds its chain, because reusing them needs the chain exclusively.
//! If the chain is held when frames could be freed, the free leaves a pending mark, and the last
//! holder to leave calls [`Pool::free_deferred`] (deferred free: ).

use frames::{ChainId, Exclusive};

use crate::class::SizeClass;
use crate::handle::Handle;
use crate::hold_time::ClassGuard;
use crate::object::ObjectSlot;
use crate::pool::{ClassState, Pool};
use crate::{AccessError, SizeClasses};

impl Pool {
    /// Frees an object and returns its length. Units: bytes. Never waits for a reader.
    ///
    /// # Errors
    /// - [`AccessError::Stale`] when the object was freed before: a double free changes nothing
    ///
    /// - [`AccessError::Poisoned`] when the pool is poisoned.
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

    /// Prefetches the handle's location word, for a later read or free.
    pub fn prefetch(&self, handle: Handle) {
        self.handles.prefetch(handle);
    }

    /// Prefetches the records of the object's zspage. Useful some hundred nanoseconds after
    /// [`Pool::prefetch`].
    pub fn prefetch_zspage(&self, handle: Handle) {
        if let Ok(location) = self.handles.locate(handle) {
            self.zspages.chains().prefetch(location.chain());
        }
    }

    /// Finds an object and locks its class. The object does not move while the lock is held.
    pub(crate) fn lock_object(
        &self,
        handle: Handle,
    ) -> Result<(ObjectSlot, ClassGuard<'_>), AccessError> {
        let mut retries = 0;
        loop {
            self.note_retry(&mut retries)?;
            let location = self.handles.locate(handle)?;
            // The chain may be freed between the two loads, after compaction moved the object:
            // then the word has changed, too.
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

    /// Counts a retry after an object that moved meanwhile. No object moves a million times
    /// during one call: the tables then contradict themselves, and the pool is poisoned instead
    /// of spinning forever (S-24).
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

    /// Clears the slot's bit and frees the frames that this leaves empty. The caller holds the
    /// class lock, and the location word no longer names the slot.
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

    /// Moves a zspage to the list of its fullness group (INV-POOL-4). The caller holds the class
    /// lock.
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

    /// Clears like [`Pool::free_object`], but leaves the list and the frames to the caller.
    /// Returns how many of the object's frames are empty now.
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
        Ok(slot.frames().filter(empty).count() as u64)
    }

    /// Frees the empty frames of a zspage, and the zspage itself when it is empty. Leaves a
    /// pending mark when its chain is held. The caller holds the class lock.
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

    /// Frees like [`Pool::release_empty_frames`], for a chain that the caller holds exclusively.
    pub(crate) fn release_empty_frames_held(
        &self,
        state: &mut ClassState,
        mut held: Exclusive<'_>,
        class: SizeClass,
    ) {
        // Marks are set under the class lock, which is held, so none is lost here.
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

    /// Detaches the frames at `positions` that hold no byte of a live object.
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

    /// Does the deferred free of a chain: frees its empty frames, and the zspage itself when it is
    /// empty. The last holder of the chain calls it, with no lock held.
    pub(crate) fn free_deferred(&self, chain: ChainId) {
        loop {
            let Some(class) = self.class_of(chain) else { return };
            let mut state = self.lock(class);
            if self.class_of(chain) != Some(class) {
                continue;
            }
            // The number may name a newer zspage by now. Freeing that zspage's empty frames does
            // no harm.
            self.release_empty_frames(&mut state, chain, class);
            drop(state);
            return self.zspages.chains().release_excess_if_due();
        }
    }

    fn class_of(&self, chain: ChainId) -> Option<SizeClass> {
        self.zspages.chains().tag(chain).and_then(|tag| SizeClasses::by_index(&self.classes, tag))
    }
}
