//! Allocation: find a slot, write the object, publish its handle.
//!
//! An object is written once, before its handle is known. The slot's bit is set under the class
//! lock. The bytes are copied with only the chain held. The location word is published before the
//! chain is released.

use frames::{ChainKind, ChargePurpose, Exclusive, Reclaim, Reservation};

use crate::class::{MAX_OBJECT, SizeClass};
use crate::error::AllocError;
use crate::free::free_deferred;
use crate::handle::{Handle, Location};
use crate::object::ObjectSlot;
use crate::pool::{LockedClass, Pool};
use crate::zspage::FullnessGroup;

/// Maximum slots tried for an object whose memory fails while it is written.
const MAX_WRITE_ATTEMPTS: usize = 8;
/// Maximum busy zspages tried in one fullness group.
const MAX_BUSY_ZSPAGES: usize = 4;
/// Maximum zspages tried in one fullness group. A zspage whose free slots all lie in failed
/// memory does not count as busy: it stays at the front of its list, and others follow.
const GROUP_SCAN_LIMIT: usize = 64;
/// Maximum free objects tried for one that needs no new frame.
const OBJECT_SCAN_LIMIT: usize = 32;

impl Pool {
    /// Stores `bytes`, which are 1 to 4096, as a new object.
    ///
    /// # Errors
    /// Returns [`AllocError`]; the pool is unchanged.
    pub fn store(&self, bytes: &[u8]) -> Result<Handle, AllocError> {
        let class = class_for(self, bytes)?;
        let handle = self.handles.reserve()?;
        let unpublished = alloc_and_write(self, class, handle, bytes)
            .inspect_err(|_| self.handles.free_index(handle))?;
        unpublished.publish();
        self.zone.wake_kswapd();
        Ok(handle)
    }

    /// Stores like [`Pool::store`], in a new zspage whose first frame was reserved. Its records may
    /// use only what the limit reserves for them, which a lowered limit refuses.
    ///
    /// # Errors
    /// Returns [`AllocError`]; the pool is unchanged. The reservation is not used, unless the
    /// reserved frame's memory failed.
    pub fn store_reserved(
        &self,
        bytes: &[u8],
        reservation: &mut Reservation<'_>,
    ) -> Result<Handle, AllocError> {
        let class = class_for(self, bytes)?;
        let handle = self.handles.reserve_for(ChargePurpose::ReservedFrame)?;
        let unpublished = self.lock(class).alloc_object(handle, bytes.len(), Some(reservation));
        match unpublished.and_then(|unpublished| unpublished.write(bytes)) {
            Ok(Some(unpublished)) => unpublished.publish(),
            failed => {
                self.handles.free_index(handle);
                // If the frame's memory failed, store without the reservation.
                failed?;
                return self.store(bytes);
            }
        }
        Ok(handle)
    }

    /// Allocates an object of `len` zero bytes, to be filled by [`Pool::write`].
    ///
    /// # Errors
    /// Returns [`AllocError`]; the pool is unchanged.
    pub fn malloc(&self, len: usize) -> Result<Handle, AllocError> {
        const ZEROS: [u8; MAX_OBJECT] = [0; MAX_OBJECT];
        self.store(ZEROS.get(..len).ok_or(AllocError::Size { len })?)
    }
}

/// Returns the class for a new object, unless the pool is poisoned.
fn class_for(pool: &Pool, bytes: &[u8]) -> Result<SizeClass, AllocError> {
    let class = pool.classes.for_len(bytes.len()).ok_or(AllocError::Size { len: bytes.len() })?;
    if pool.is_poisoned() { Err(AllocError::Poisoned) } else { Ok(class) }
}

/// Allocates a slot and writes the object, in another slot if memory fails. Publishes nothing.
pub(crate) fn alloc_and_write<'p>(
    pool: &'p Pool,
    class: SizeClass,
    handle: Handle,
    bytes: &[u8],
) -> Result<UnpublishedObject<'p>, AllocError> {
    for _ in 0..MAX_WRITE_ATTEMPTS {
        let unpublished = pool.lock(class).alloc_object(handle, bytes.len(), None)?;
        if let Some(written) = unpublished.write(bytes)? {
            return Ok(written);
        }
    }
    Err(AllocError::NoFrames)
}

/// An object whose bit is set, with its chain held exclusively: no other thread can access it yet.
pub(crate) struct UnpublishedObject<'p> {
    pool: &'p Pool,
    pub(crate) slot: ObjectSlot,
    pub(crate) held: Exclusive<'p>,
    handle: Handle,
    len: usize,
}

impl UnpublishedObject<'_> {
    /// Writes the object. Returns `None`, with the slot freed, when its memory has failed.
    pub(crate) fn write(mut self, bytes: &[u8]) -> Result<Option<Self>, AllocError> {
        debug_assert_eq!(bytes.len(), self.len);
        let Self { pool, slot, len, .. } = self;
        if !slot.write(&mut self.held, self.handle.index(), (bytes, &[])) {
            pool.poison();
            return Err(AllocError::Poisoned);
        }
        if !self.held.has_failed(slot.bytes(len)) {
            return Ok(Some(self));
        }
        // Lock order, chain before class: this thread holds the chain and waits for the class. A
        // holder of the class lock waits for no chain.
        let freed = pool.lock(slot.class).free_object(slot, len);
        free_deferred(pool, slot.chain, self.held.release());
        freed.map(|()| None).map_err(|_| AllocError::Poisoned)
    }

    /// Publishes the handle of the written object and releases its chain.
    pub(crate) fn publish(self) {
        let Self { pool, slot, held, handle, len } = self;
        let location = Location::live(slot.chain, slot.object, handle.generation());
        pool.handles.publish(handle, location, len);
        free_deferred(pool, slot.chain, held.release());
    }
}

impl<'p> LockedClass<'p> {
    /// Allocates a slot with its frames and sets its bit. Busy zspages are skipped (S-18, S-21).
    /// With a reservation, the slot is in a new zspage, whose first frame is the reserved one.
    pub(crate) fn alloc_object(
        &mut self,
        handle: Handle,
        len: usize,
        reservation: Option<&mut Reservation<'_>>,
    ) -> Result<UnpublishedObject<'p>, AllocError> {
        let pool = self.pool;
        let found = if reservation.is_none() { self.find_zspage()? } else { None };
        let (slot, held) = match found {
            Some(found) => found,
            None => self.alloc_zspage(reservation)?,
        };
        self.add_object(slot, handle, len)?;
        self.fix_fullness_group(&pool.zspages, slot.chain);
        Ok(UnpublishedObject { pool, slot, held, handle, len })
    }

    /// Sets the slot's bit and counts the object. Leaves the list of its zspage to the caller.
    pub(crate) fn add_object(
        &mut self,
        slot: ObjectSlot,
        handle: Handle,
        len: usize,
    ) -> Result<(), AllocError> {
        let (zspages, class) = (&self.pool.zspages, slot.class);
        let Some(mut head) = zspages.head(slot.chain).filter(|head| head.class == class.index)
        else {
            self.pool.poison();
            return Err(AllocError::Poisoned);
        };
        zspages.set_live(slot.chain, slot.object);
        head.used += 1;
        if class.is_huge() {
            head.huge = handle.index();
        }
        zspages.set_head(slot.chain, head);
        self.object_added(len);
        Ok(())
    }

    /// Returns a slot in an existing zspage: the fullest first, an empty one last (R-280, S-15).
    ///
    /// Returns `Ok(None)` when a new zspage is needed, and an error when the slots found need a
    /// frame that cannot be allocated.
    pub(crate) fn find_zspage(
        &mut self,
    ) -> Result<Option<(ObjectSlot, Exclusive<'p>)>, AllocError> {
        let (zspages, class) = (&self.pool.zspages, self.class());
        let mut refused = None;
        for group in FullnessGroup::partial_fullest_first().chain([FullnessGroup::EMPTY]) {
            let mut busy = 0;
            for chain in self.lists()[group.index()].iter(zspages).take(GROUP_SCAN_LIMIT) {
                if busy == MAX_BUSY_ZSPAGES {
                    break;
                }
                busy += 1;
                // Dropping it ignores a pending mark: the previous holder saw it and will do the
                // work; new marks need the class lock, which is held.
                let Some(mut held) = zspages.chains.try_exclusive(chain) else { continue };
                match self.pick_free_object(&mut held) {
                    Ok(Some(object)) => {
                        return Ok(Some((ObjectSlot { chain, object, class }, held)));
                    }
                    Ok(None) => busy -= 1,
                    Err(error) => refused = Some(error),
                }
            }
        }
        refused.map_or(Ok(None), Err)
    }

    /// Allocates a zspage and its first slot, whose frame is attached.
    fn alloc_zspage(
        &mut self,
        reservation: Option<&mut Reservation<'_>>,
    ) -> Result<(ObjectSlot, Exclusive<'p>), AllocError> {
        let (pool, class) = (self.pool, self.class());
        let purpose = match reservation {
            Some(_) => ChargePurpose::ReservedFrame,
            None => ChargePurpose::General,
        };
        let kind = if class.frames == 1 { ChainKind::Single } else { ChainKind::Multi };
        let mut held = pool.zspages.chains.create_for(kind, class.index, purpose)?;
        let attached = match reservation {
            Some(frame) => {
                let attached = held.attach_reserved(0, frame).map_err(AllocError::from);
                attached.inspect(|()| self.frame_attached(&pool.frames))
            }
            None => self.attach_frames(&mut held, 0),
        };
        if let Err(error) = attached {
            held.destroy();
            return Err(error);
        }
        let chain = held.id();
        self.zspage_added(&pool.zspages, chain);
        Ok((ObjectSlot { chain, object: 0, class }, held))
    }

    /// Picks a free object whose frames are attached, else the first free one, and attaches its
    /// frames. Returns `None` when all free objects lie in failed memory.
    pub(crate) fn pick_free_object(
        &mut self,
        held: &mut Exclusive<'_>,
    ) -> Result<Option<u16>, AllocError> {
        let (pool, class, chain) = (self.pool, self.class(), held.id());
        let any_failed = pool.zone.failure_reports() != 0;
        let whole = |object| ObjectSlot { chain, object, class }.bytes(class.payload());
        let sound = |object: &u16| !(any_failed && held.has_failed(whole(*object)));
        let ready =
            |object: &u16| class.frames_of(*object).all(|position| held.has_frame(position));
        if let Some(object) =
            pool.zspages.free(chain, class).filter(sound).take(OBJECT_SCAN_LIMIT).find(ready)
        {
            return Ok(Some(object));
        }
        // A partial zspage has a free object, unless its memory has failed.
        let Some(object) = pool.zspages.free(chain, class).find(sound) else {
            if any_failed {
                return Ok(None);
            }
            pool.poison();
            return Err(AllocError::Poisoned);
        };
        self.attach_frames(held, object)?;
        Ok(Some(object))
    }

    /// Attaches the missing frames of an object. On failure, detaches those attached here.
    pub(crate) fn attach_frames(
        &mut self,
        held: &mut Exclusive<'_>,
        object: u16,
    ) -> Result<(), AllocError> {
        let (pool, frames) = (self.pool, self.class().frames_of(object));
        for position in frames.clone() {
            if held.has_frame(position) {
                continue;
            }
            if let Err(error) = held.attach(position, Reclaim::NotAllowed) {
                self.detach_empty_frames(held, frames);
                return Err(error.into());
            }
            self.frame_attached(&pool.frames);
        }
        Ok(())
    }
}
