//! Finding a slot for a new object: in the fullest zspage that is not busy, or in a new one.

use frames::{ChainKind, ChargePurpose, Exclusive, Reclaim, Reservation};

use super::unpublished::UnpublishedObject;
use crate::error::AllocError;
use crate::handle::Handle;
use crate::object::ObjectSlot;
use crate::pool::LockedClass;
use crate::zspage::FullnessGroup;

/// Maximum busy zspages tried in one fullness group.
const MAX_BUSY_ZSPAGES: usize = 4;
/// Maximum zspages tried in one fullness group. A zspage whose free slots all lie in failed
/// memory does not count as busy: it stays at the front of its list, and others follow.
const GROUP_SCAN_LIMIT: usize = 64;
/// Maximum free objects tried for one that needs no new frame.
const OBJECT_SCAN_LIMIT: usize = 32;

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
