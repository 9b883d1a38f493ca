//! Allocation: find a slot, write it, then let it be known.
//!
//! An object is written once, before anyone else can know its handle: the slot's bit is set under the class lock, the bytes are copied with only
//! the extent held, and the location word is published before the extent is let go.

use frames::{ChargeFor, Exclusive, ExtentId, Leaving, Reclaim, Reservation};

use crate::class::SizeClass;
use crate::fullness::Group;
use crate::handle::{Handle, Location};
use crate::object::Slot;
use crate::pool::{ClassState, Pool, shape_of};
use crate::zspage::frames_of;
use crate::{AllocError, MAX_OBJECT};

/// Busy zspages looked at in one group before the next group is tried.
const TRIES: usize = 4;

/// A slot whose bit is set, in an extent nobody else can enter yet.
pub(crate) struct Placed<'p> {
    pub(crate) slot: Slot,
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
        let class = self.classes.for_len(bytes.len()).ok_or(AllocError::Size { len: bytes.len() })?;
        if self.is_poisoned() {
            return Err(AllocError::Poisoned);
        }
        let handle = self.handles.reserve()?;
        let placed = match self.place(&mut self.lock(class), class, handle, bytes.len()) {
            Ok(placed) => placed,
            Err(error) => {
                self.handles.cancel(handle);
                return Err(error);
            }
        };
        self.fill(placed, handle, bytes)?;
        self.zone.wake_kswapd();
        Ok(handle)
    }

    /// As [`Pool::store`], in a new zspage whose first frame was reserved. Its records may use what the limit keeps for them, and
    /// nothing beyond: a limit that was lowered since can refuse them.
    ///
    /// # Errors
    /// [`AllocError`]; nothing has changed then, and the reservation is not spent.
    pub fn store_reserved(&self, bytes: &[u8], reservation: &mut Reservation<'_>) -> Result<Handle, AllocError> {
        let class = self.classes.for_len(bytes.len()).ok_or(AllocError::Size { len: bytes.len() })?;
        if self.is_poisoned() {
            return Err(AllocError::Poisoned);
        }
        let handle = self.handles.reserve_for(ChargeFor::ReservedFrame)?;
        let mut state = self.lock(class);
        let placed = self
            .grow(&mut state, class, ChargeFor::ReservedFrame, |held, state| {
                held.attach_reserved(0, reservation)?;
                self.attached(state);
                Ok(())
            })
            .and_then(|(slot, held)| self.occupy(&mut state, slot, held, handle, bytes.len()));
        drop(state);
        match placed {
            Ok(placed) => self.fill(placed, handle, bytes)?,
            Err(error) => {
                self.handles.cancel(handle);
                return Err(error);
            }
        }
        Ok(handle)
    }

    /// Allocates an object of `len` zero bytes, to be filled by [`Pool::write`].
    ///
    /// # Errors
    /// [`AllocError`]; nothing has changed then.
    pub fn malloc(&self, len: usize) -> Result<Handle, AllocError> {
        const ZEROS: [u8; MAX_OBJECT] = [0; MAX_OBJECT];
        self.store(ZEROS.get(..len).ok_or(AllocError::Size { len })?)
    }

    /// Writes a placed object and publishes it.
    pub(crate) fn fill(&self, mut placed: Placed<'_>, handle: Handle, bytes: &[u8]) -> Result<(), AllocError> {
        let Placed { slot, held } = &mut placed;
        if !slot.write(held, handle.index(), bytes) {
            self.poison();
            return Err(AllocError::Poisoned);
        }
        let location = Location::live(slot.extent, slot.object, handle.generation());
        self.handles.publish(handle, location, bytes.len());
        self.leave(slot.extent, placed.held.release());
        Ok(())
    }

    /// Does the work others left in an extent, if a leaving guard was told to.
    pub(crate) fn leave(&self, extent: ExtentId, leaving: Leaving) {
        if leaving == Leaving::Pending {
            self.reap(extent);
        }
    }

    /// Finds a slot, attaches the frames it needs and sets its bit. The class is locked; busy zspages are passed over (S-18, S-21).
    pub(crate) fn place(
        &self,
        state: &mut ClassState,
        class: SizeClass,
        handle: Handle,
        len: usize,
    ) -> Result<Placed<'_>, AllocError> {
        let (slot, held) = match self.find(state, class)? {
            Some(found) => found,
            None => self.grow(state, class, ChargeFor::Anything, |held, state| self.attach(held, class, 0, state))?,
        };
        self.occupy(state, slot, held, handle, len)
    }

    /// Sets the slot's bit and counts the object.
    fn occupy<'p>(
        &self,
        state: &mut ClassState,
        slot: Slot,
        held: Exclusive<'p>,
        handle: Handle,
        len: usize,
    ) -> Result<Placed<'p>, AllocError> {
        let class = slot.class;
        let Some(mut head) = self.zspages.head(slot.extent).filter(|head| head.class == class.index) else {
            self.poison();
            return Err(AllocError::Poisoned);
        };
        self.zspages.set_live(slot.extent, slot.object);
        head.used += 1;
        if class.is_huge() {
            head.huge = handle.index();
        }
        state.regroup(&self.zspages, slot.extent, class, head);
        state.used += 1;
        state.live_bytes += len as u64;
        Ok(Placed { slot, held })
    }

    /// A slot in a zspage that is there: fullest first, an empty one that waits to be given back last (R-280, S-15).
    ///
    /// `Ok(None)` when a new zspage is needed. An error when a slot was found but no frame for it, nor any slot that needs none.
    pub(crate) fn find(
        &self,
        state: &mut ClassState,
        class: SizeClass,
    ) -> Result<Option<(Slot, Exclusive<'_>)>, AllocError> {
        let mut refused = None;
        for group in Group::partial_fullest_first().chain([Group::EMPTY]) {
            let ids = state.lists[group.index()].iter(&self.zspages).take(TRIES);
            for extent in ids {
                let Some(mut held) = self.zspages.extents().try_exclusive(extent) else { continue };
                match self.choose(&mut held, class, state) {
                    Ok(object) => return Ok(Some((Slot { extent, object, class }, held))),
                    Err(error) => refused = Some(error),
                }
                // A mark we are told of was told to whoever left before us as well, and he is on his way: new ones need the class lock.
                let _ = held.release();
            }
        }
        refused.map_or(Ok(None), Err)
    }

    /// A new zspage with its first slot, whose frame comes from `attach`.
    fn grow(
        &self,
        state: &mut ClassState,
        class: SizeClass,
        purpose: ChargeFor,
        attach: impl FnOnce(&mut Exclusive<'_>, &mut ClassState) -> Result<(), AllocError>,
    ) -> Result<(Slot, Exclusive<'_>), AllocError> {
        let mut held = self.zspages.extents().create_for(shape_of(class), class.index, purpose)?;
        if let Err(error) = attach(&mut held, state) {
            held.destroy();
            return Err(error);
        }
        let extent = held.id();
        self.zspages.begin(extent, class.index);
        state.lists[Group::EMPTY.index()].add(&self.zspages, extent, 0);
        state.zspages += 1;
        Ok((Slot { extent, object: 0, class }, held))
    }

    /// Picks a free object whose frames are there, else the first one, whose frames are then attached.
    pub(crate) fn choose(
        &self,
        held: &mut Exclusive<'_>,
        class: SizeClass,
        state: &mut ClassState,
    ) -> Result<u16, AllocError> {
        /// Free objects looked at for one that needs no new frame.
        const LOOK: usize = 32;
        let extent = held.id();
        let ready = |object: &u16| frames_of(class, *object).all(|position| held.has_frame(position));
        if let Some(object) = self.zspages.free(extent, class).take(LOOK).find(ready) {
            return Ok(object);
        }
        let Some(object) = self.zspages.free(extent, class).next() else {
            self.poison();
            return Err(AllocError::Poisoned);
        };
        self.attach(held, class, object, state)?;
        Ok(object)
    }

    /// Attaches the frames of an object that are missing. On failure those attached here are given back.
    pub(crate) fn attach(
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
                self.detach_empty(held, class, frames_of(class, object), state);
                return Err(error.into());
            }
            self.attached(state);
        }
        Ok(())
    }

    /// Counts a frame that was attached.
    fn attached(&self, state: &mut ClassState) {
        state.frames += 1;
        self.frames.rise();
    }
}
