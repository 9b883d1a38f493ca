//! Allocation: find a slot, write it, then let it be known.
//!
//! An object is written once, before anyone else can know its handle: the slot's bit is set under the class lock, the bytes are copied with only
//! the chain held, and the location word is published before the chain is let go.

use frames::{ChainId, ChargePurpose, Exclusive, Reclaim, ReleaseStatus, Reservation};

use crate::class::SizeClass;
use crate::fullness::FullnessGroup;
use crate::handle::{Handle, Location};
use crate::object::ObjectSlot;
use crate::pool::{ClassState, Pool, chain_kind};
use crate::zspage::frames_of;
use crate::{AllocError, MAX_OBJECT};

/// Busy zspages looked at in one group before the next group is tried.
const MAX_BUSY_ZSPAGES: usize = 4;

/// Zspages looked at in one group at most. Those whose free places all lie in failed memory are no
/// busy ones: they stay at the front of their list, and the group has others.
const GROUP_SCAN_LIMIT: usize = 64;

/// Places tried for an object whose memory fails while it is written.
const MAX_WRITE_ATTEMPTS: usize = 8;

/// A slot whose bit is set, in a chain nobody else can enter yet.
pub(crate) struct UnpublishedObject<'p> {
    pub(crate) slot: ObjectSlot,
    pub(crate) held: Exclusive<'p>,
}

impl Pool {
    /// Stores `bytes` as a new object: allocate and write in one step.
    ///
    /// Units: 1 to 4096 bytes.
    ///
    /// # Errors
    /// [`AllocError`]; nothing has changed then.
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

    /// As [`Pool::store`], in a new zspage whose first frame was reserved. Its records may use what the limit keeps for them, and
    /// nothing beyond: a limit that was lowered since can refuse them.
    ///
    /// # Errors
    /// [`AllocError`]; nothing has changed then, and the reservation is not spent, unless the memory it stood for failed.
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
    /// [`AllocError`]; nothing has changed then.
    pub fn malloc(&self, len: usize) -> Result<Handle, AllocError> {
        const ZEROS: [u8; MAX_OBJECT] = [0; MAX_OBJECT];
        self.store(ZEROS.get(..len).ok_or(AllocError::Size { len })?)
    }

    /// Finds a slot and writes the object there: elsewhere again when memory fails meanwhile. It is not published yet.
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

    /// Writes an unpublished object. `None`, with the slot free again, when memory it lies in has failed.
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
        // Chain before class: we hold the chain and wait for the class, whose holder waits for no chain.
        let mut state = self.lock(slot.class);
        state.live_bytes -= bytes.len() as u64;
        let cleared = self.free_object(&mut state, *slot);
        drop(state);
        self.free_deferred_if_pending(unpublished.slot.chain, unpublished.held.release());
        cleared.map(|()| None).map_err(|_| AllocError::Poisoned)
    }

    /// Makes a written object reachable.
    pub(crate) fn publish(&self, unpublished: UnpublishedObject<'_>, handle: Handle, len: usize) {
        let UnpublishedObject { slot, held } = unpublished;
        self.handles.publish(
            handle,
            Location::live(slot.chain, slot.object, handle.generation()),
            len,
        );
        self.free_deferred_if_pending(slot.chain, held.release());
    }

    /// Does the work others left in a chain, if a leaving guard was told to.
    pub(crate) fn free_deferred_if_pending(&self, chain: ChainId, leaving: ReleaseStatus) {
        if leaving == ReleaseStatus::Pending {
            self.free_deferred(chain);
        }
    }

    /// Finds a slot, attaches the frames it needs and sets its bit. The class is locked; busy zspages are passed over (S-18, S-21).
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

    /// Sets the slot's bit and counts the object.
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

    /// A slot in a zspage that is there: fullest first, an empty one that waits to be given back last (R-280, S-15).
    ///
    /// `Ok(None)` when a new zspage is needed. An error when a slot was found but no frame for it, nor any slot that needs none.
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
                // A mark we are told of was told to whoever left before us as well, and he is on his way: new ones need the class lock.
                let _ = held.release();
            }
        }
        refused.map_or(Ok(None), Err)
    }

    /// A new zspage with its first slot, whose frame comes from `attach`.
    fn alloc_zspage(
        &self,
        state: &mut ClassState,
        class: SizeClass,
        purpose: ChargePurpose,
        attach: impl FnOnce(&mut Exclusive<'_>, &mut ClassState) -> Result<(), AllocError>,
    ) -> Result<(ObjectSlot, Exclusive<'_>), AllocError> {
        let mut held = self.zspages.chains().create_for(chain_kind(class), class.index, purpose)?;
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

    /// Picks a free object whose frames are there, else the first one, whose frames are then attached. `None` when memory that has failed is in the way of all.
    pub(crate) fn pick_free_object(
        &self,
        held: &mut Exclusive<'_>,
        class: SizeClass,
        state: &mut ClassState,
    ) -> Result<Option<u16>, AllocError> {
        /// Free objects looked at for one that needs no new frame.
        const OBJECT_SCAN_LIMIT: usize = 32;
        let chain = held.id();
        let any_failed = self.zone.failure_reports() != 0;
        let whole = |object| ObjectSlot { chain, object, class }.bytes(class.payload());
        let sound = |object: &u16| !(any_failed && held.has_failed(whole(*object)));
        let ready =
            |object: &u16| frames_of(class, *object).all(|position| held.has_frame(position));
        if let Some(object) =
            self.zspages.free(chain, class).filter(sound).take(OBJECT_SCAN_LIMIT).find(ready)
        {
            return Ok(Some(object));
        }
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

    /// Attaches the frames of an object that are missing. On failure those attached here are given back.
    pub(crate) fn attach_frames(
        &self,
        held: &mut Exclusive<'_>,
        class: SizeClass,
        object: u16,
        state: &mut ClassState,
    ) -> Result<(), AllocError> {
        for position in frames_of(class, object) {
            if held.has_frame(position) {
                continue;
            }
            if let Err(error) = held.attach(position, Reclaim::NotAllowed) {
                self.detach_empty_frames(held, class, frames_of(class, object), state);
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
