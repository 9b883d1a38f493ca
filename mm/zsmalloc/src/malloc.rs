//! Allocation: find a slot, write the object, publish its handle.
//!
//! An object is written once, before its handle is known. The slot's bit is set under the class
//! lock. The bytes are copied with only the chain held. The location word is published before the
//! chain is released.

use frames::{ChainId, ChargePurpose, Exclusive, Reclaim, ReleaseStatus, Reservation};

use crate::AllocError;
use crate::class::{MAX_OBJECT, SizeClass};
use crate::fullness::FullnessGroup;
use crate::handle::{Handle, Location};
use crate::object::ObjectSlot;
use crate::pool::{ClassState, Pool};

/// Maximum busy zspages tried in one fullness group.
const MAX_BUSY_ZSPAGES: usize = 4;

/// Maximum zspages tried in one fullness group. A zspage whose free slots all lie in failed
/// memory does not count as busy: it stays at the front of its list, and others follow.
const GROUP_SCAN_LIMIT: usize = 64;

/// Maximum slots tried for an object whose memory fails while it is written.
const MAX_WRITE_ATTEMPTS: usize = 8;

/// A slot whose bit is set, with its chain held exclusively: no other thread can access it yet.
pub(crate) struct UnpublishedObject<'p> {
    pub(crate) slot: ObjectSlot,
    pub(crate) held: Exclusive<'p>,
}

impl Pool {
    /// Stores `bytes` as a new object: allocates a slot and writes it in one call. Units: 1 to
    /// 4096 bytes.
    ///
    /// # Errors
    /// Returns [`AllocError`]; the pool is unchanged.
    pub fn store(&self, bytes: &[u8]) -> Result<Handle, AllocError> {
        let class =
            self.classes.for_len(bytes.len()).ok_or(AllocError::Size { len: bytes.len() })?;
        if self.is_poisoned() {
            return Err(AllocError::Poisoned);
        }
        let handle = self.handles.reserve()?;
        match self.alloc_and_write(class, handle, bytes) {
            Ok(unpublished) => self.publish(unpublished, handle, bytes.len()),
            Err(error) => {
                self.handles.cancel(handle);
                return Err(error);
            }
        }
        self.zone.wake_kswapd();
        Ok(handle)
    }

    /// Stores like [`Pool::store`], in a new zspage whose first frame was reserved. Its records
    /// may use what the limit reserves for them, and no more: a limit that was lowered meanwhile
    /// can refuse them.
    ///
    /// # Errors
    /// Returns [`AllocError`]; the pool is unchanged. The reservation is not used, unless the
    /// reserved frame's memory failed.
    pub fn store_reserved(
        &self,
        bytes: &[u8],
        reservation: &mut Reservation<'_>,
    ) -> Result<Handle, AllocError> {
        let class =
            self.classes.for_len(bytes.len()).ok_or(AllocError::Size { len: bytes.len() })?;
        if self.is_poisoned() {
            return Err(AllocError::Poisoned);
        }
        let handle = self.handles.reserve_for(ChargePurpose::ReservedFrame)?;
        // Under the class lock: build a zspage on the reserved frame and take its first slot.
        let mut state = self.lock(class);
        let unpublished = self
            .alloc_zspage(&mut state, class, ChargePurpose::ReservedFrame, |held, state| {
                held.attach_reserved(0, reservation)?;
                self.count_attached_frame(state);
                Ok(())
            })
            .and_then(|(slot, held)| {
                self.mark_allocated(&mut state, slot, held, handle, bytes.len())
            });
        drop(state);
        // Without the lock: write and publish. If the frame's memory failed, store without the
        // reservation.
        match unpublished.and_then(|unpublished| self.write_unpublished(unpublished, handle, bytes))
        {
            Ok(Some(unpublished)) => {
                self.publish(unpublished, handle, bytes.len());
                Ok(handle)
            }
            Ok(None) => {
                self.handles.cancel(handle);
                self.store(bytes)
            }
            Err(error) => {
                self.handles.cancel(handle);
                Err(error)
            }
        }
    }

    /// Allocates an object of `len` zero bytes, to be filled by [`Pool::write`].
    ///
    /// # Errors
    /// Returns [`AllocError`]; the pool is unchanged.
    pub fn malloc(&self, len: usize) -> Result<Handle, AllocError> {
        const ZEROS: [u8; MAX_OBJECT] = [0; MAX_OBJECT];
        self.store(ZEROS.get(..len).ok_or(AllocError::Size { len })?)
    }

    /// Allocates a slot and writes the object, in another slot again if memory fails meanwhile.
    /// Does not publish it.
    pub(crate) fn alloc_and_write(
        &self,
        class: SizeClass,
        handle: Handle,
        bytes: &[u8],
    ) -> Result<UnpublishedObject<'_>, AllocError> {
        for _ in 0..MAX_WRITE_ATTEMPTS {
            let unpublished =
                self.alloc_object(&mut self.lock(class), class, handle, bytes.len())?;
            if let Some(written) = self.write_unpublished(unpublished, handle, bytes)? {
                return Ok(written);
            }
        }
        Err(AllocError::NoFrames)
    }

    /// Writes an unpublished object. Returns `None`, with the slot freed, when its memory has
    /// failed.
    pub(crate) fn write_unpublished<'p>(
        &self,
        mut unpublished: UnpublishedObject<'p>,
        handle: Handle,
        bytes: &[u8],
    ) -> Result<Option<UnpublishedObject<'p>>, AllocError> {
        let UnpublishedObject { slot, held } = &mut unpublished;
        if !slot.write(held, handle.index(), bytes) {
            self.poison();
            return Err(AllocError::Poisoned);
        }
        if !held.has_failed(slot.bytes(bytes.len())) {
            return Ok(Some(unpublished));
        }
        // Lock order, chain before class: this thread holds the chain and waits for the class. A
        // holder of the class lock waits for no chain.
        let mut state = self.lock(slot.class);
        state.live_bytes -= bytes.len() as u64;
        let cleared = self.free_object(&mut state, *slot);
        drop(state);
        self.free_deferred_if_pending(unpublished.slot.chain, unpublished.held.release());
        cleared.map(|()| None).map_err(|_| AllocError::Poisoned)
    }

    /// Publishes the handle of a written object and releases its chain.
    pub(crate) fn publish(&self, unpublished: UnpublishedObject<'_>, handle: Handle, len: usize) {
        let UnpublishedObject { slot, held } = unpublished;
        self.handles.publish(
            handle,
            Location::live(slot.chain, slot.object, handle.generation()),
            len,
        );
        self.free_deferred_if_pending(slot.chain, held.release());
    }

    /// Calls [`Pool::free_deferred`] when releasing the chain returned a pending mark. The caller
    /// holds no class lock.
    pub(crate) fn free_deferred_if_pending(&self, chain: ChainId, leaving: ReleaseStatus) {
        if leaving == ReleaseStatus::Pending {
            self.free_deferred(chain);
        }
    }

    /// Allocates a slot, attaches the frames it needs and sets its bit. The caller holds the
    /// class lock. Busy zspages are skipped (S-18, S-21).
    pub(crate) fn alloc_object(
        &self,
        state: &mut ClassState,
        class: SizeClass,
        handle: Handle,
        len: usize,
    ) -> Result<UnpublishedObject<'_>, AllocError> {
        let (slot, held) = match self.find_zspage(state, class)? {
            Some(found) => found,
            None => self.alloc_zspage(state, class, ChargePurpose::General, |held, state| {
                self.attach_frames(held, class, 0, state)
            })?,
        };
        self.mark_allocated(state, slot, held, handle, len)
    }

    /// Sets the slot's bit and counts the object. The caller holds the class lock.
    fn mark_allocated<'p>(
        &self,
        state: &mut ClassState,
        slot: ObjectSlot,
        held: Exclusive<'p>,
        handle: Handle,
        len: usize,
    ) -> Result<UnpublishedObject<'p>, AllocError> {
        let class = slot.class;
        let Some(mut head) = self.zspages.head(slot.chain).filter(|head| head.class == class.index)
        else {
            self.poison();
            return Err(AllocError::Poisoned);
        };
        self.zspages.set_live(slot.chain, slot.object);
        head.used += 1;
        if class.is_huge() {
            head.huge = handle.index();
        }
        state.fix_fullness_group(&self.zspages, slot.chain, class, head);
        state.used += 1;
        state.live_bytes += len as u64;
        Ok(UnpublishedObject { slot, held })
    }

    /// Returns a slot in an existing zspage: the fullest first, an empty one last (R-280, S-15).
    /// The caller holds the class lock.
    ///
    /// Returns `Ok(None)` when a new zspage is needed, and an error when the slots found need a
    /// frame that cannot be allocated.
    pub(crate) fn find_zspage(
        &self,
        state: &mut ClassState,
        class: SizeClass,
    ) -> Result<Option<(ObjectSlot, Exclusive<'_>)>, AllocError> {
        let mut refused = None;
        for group in FullnessGroup::partial_fullest_first().chain([FullnessGroup::EMPTY]) {
            let mut busy = 0;
            for chain in state.lists[group.index()].iter(&self.zspages).take(GROUP_SCAN_LIMIT) {
                if busy == MAX_BUSY_ZSPAGES {
                    break;
                }
                busy += 1;
                let Some(mut held) = self.zspages.chains().try_exclusive(chain) else { continue };
                match self.pick_free_object(&mut held, class, state) {
                    Ok(Some(object)) => {
                        return Ok(Some((ObjectSlot { chain, object, class }, held)));
                    }
                    Ok(None) => busy -= 1,
                    Err(error) => refused = Some(error),
                }
                // Ignore `Pending`: the previous holder saw this mark and will do the work; new
                // marks need the class lock, which is held.
                let _ = held.release();
            }
        }
        refused.map_or(Ok(None), Err)
    }

    /// Allocates a zspage and its first slot, whose frame is attached by `attach`. The caller
    /// holds the class lock.
    fn alloc_zspage(
        &self,
        state: &mut ClassState,
        class: SizeClass,
        purpose: ChargePurpose,
        attach: impl FnOnce(&mut Exclusive<'_>, &mut ClassState) -> Result<(), AllocError>,
    ) -> Result<(ObjectSlot, Exclusive<'_>), AllocError> {
        let mut held =
            self.zspages.chains().create_for(class.chain_kind(), class.index, purpose)?;
        if let Err(error) = attach(&mut held, state) {
            held.destroy();
            return Err(error);
        }
        let chain = held.id();
        self.zspages.init_record(chain, class.index);
        state.lists[FullnessGroup::EMPTY.index()].add(&self.zspages, chain, 0);
        state.zspages += 1;
        Ok((ObjectSlot { chain, object: 0, class }, held))
    }

    /// Picks a free object whose frames are attached, else the first free one, and attaches its
    /// frames. Returns `None` when all free objects lie in failed memory.
    pub(crate) fn pick_free_object(
        &self,
        held: &mut Exclusive<'_>,
        class: SizeClass,
        state: &mut ClassState,
    ) -> Result<Option<u16>, AllocError> {
        /// Maximum free objects tried for one that needs no new frame.
        const OBJECT_SCAN_LIMIT: usize = 32;
        let chain = held.id();
        let any_failed = self.zone.failure_reports() != 0;
        let whole = |object| ObjectSlot { chain, object, class }.bytes(class.payload());
        let sound = |object: &u16| !(any_failed && held.has_failed(whole(*object)));
        let ready =
            |object: &u16| class.frames_of(*object).all(|position| held.has_frame(position));
        // A free object whose frames are attached.
        if let Some(object) =
            self.zspages.free(chain, class).filter(sound).take(OBJECT_SCAN_LIMIT).find(ready)
        {
            return Ok(Some(object));
        }
        // Else the first free one. A partial zspage has one, unless its memory has failed.
        let first = self.zspages.free(chain, class).find(sound);
        let Some(object) = first else {
            if any_failed {
                return Ok(None);
            }
            self.poison();
            return Err(AllocError::Poisoned);
        };
        self.attach_frames(held, class, object, state)?;
        Ok(Some(object))
    }

    /// Attaches the missing frames of an object. On failure, detaches those attached here.
    pub(crate) fn attach_frames(
        &self,
        held: &mut Exclusive<'_>,
        class: SizeClass,
        object: u16,
        state: &mut ClassState,
    ) -> Result<(), AllocError> {
        for position in class.frames_of(object) {
            if held.has_frame(position) {
                continue;
            }
            if let Err(error) = held.attach(position, Reclaim::NotAllowed) {
                self.detach_empty_frames(held, class, class.frames_of(object), state);
                return Err(error.into());
            }
            self.count_attached_frame(state);
        }
        Ok(())
    }

    /// Counts a frame that was attached.
    fn count_attached_frame(&self, state: &mut ClassState) {
        state.frames += 1;
        self.frames.inc();
    }
}
