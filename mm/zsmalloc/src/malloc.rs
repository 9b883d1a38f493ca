//! Allocation: find a slot, write it, then let it be known.
//!
//! An object is written once, before anyone else can know its handle: the slot's bit is set under the class lock, the bytes are copied with only
//! the chain held, and the location word is published before the chain is let go.

use frames::{ChainId, ChargePurpose, Exclusive, Reclaim, ReleaseStatus, Reservation};

use crate::class::SizeClass;
use crate::fullness::Group;
use crate::handle::{Handle, Location};
use crate::object::Slot;
use crate::pool::{ClassState, Pool, chain_kind};
use crate::zspage::frames_of;
use crate::{AllocError, MAX_OBJECT};

/// Busy zspages looked at in one group before the next group is tried.
const TRIES: usize = 4;

/// Zspages looked at in one group at most. Those whose free places all lie in failed memory are no
/// busy ones: they stay at the front of their list, and the group has others.
const MAX_LOOKS: usize = 64;

/// Places tried for an object whose memory fails while it is written.
const PLACES: usize = 8;

/// A slot whose bit is set, in a chain nobody else can enter yet.
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
        let class =
            self.classes.for_len(bytes.len()).ok_or(AllocError::Size { len: bytes.len() })?;
        if self.is_poisoned() {
            return Err(AllocError::Poisoned);
        }
        let handle = self.handles.reserve()?;
        match self.place_written(class, handle, bytes) {
            Ok(placed) => self.publish(placed, handle, bytes.len()),
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
        let placed = self
            .grow(&mut state, class, ChargePurpose::ReservedFrame, |held, state| {
                held.attach_reserved(0, reservation)?;
                self.attached(state);
                Ok(())
            })
            .and_then(|(slot, held)| self.occupy(&mut state, slot, held, handle, bytes.len()));
        drop(state);
        match placed.and_then(|placed| self.write_placed(placed, handle, bytes)) {
            Ok(Some(placed)) => {
                self.publish(placed, handle, bytes.len());
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
    pub(crate) fn place_written(
        &self,
        class: SizeClass,
        handle: Handle,
        bytes: &[u8],
    ) -> Result<Placed<'_>, AllocError> {
        for _ in 0..PLACES {
            let placed = self.place(&mut self.lock(class), class, handle, bytes.len())?;
            if let Some(written) = self.write_placed(placed, handle, bytes)? {
                return Ok(written);
            }
        }
        Err(AllocError::NoFrames)
    }

    /// Writes a placed object. `None`, with the slot free again, when memory it lies in has failed.
    pub(crate) fn write_placed<'p>(
        &self,
        mut placed: Placed<'p>,
        handle: Handle,
        bytes: &[u8],
    ) -> Result<Option<Placed<'p>>, AllocError> {
        let Placed { slot, held } = &mut placed;
        if !slot.write(held, handle.index(), bytes) {
            self.poison();
            return Err(AllocError::Poisoned);
        }
        if !held.has_failed(slot.bytes(bytes.len())) {
            return Ok(Some(placed));
        }
        // Chain before class: we hold the chain and wait for the class, whose holder waits for no chain.
        let mut state = self.lock(slot.class);
        state.live_bytes -= bytes.len() as u64;
        let cleared = self.clear(&mut state, *slot);
        drop(state);
        self.leave(placed.slot.chain, placed.held.release());
        cleared.map(|()| None).map_err(|_| AllocError::Poisoned)
    }

    /// Makes a written object reachable.
    pub(crate) fn publish(&self, placed: Placed<'_>, handle: Handle, len: usize) {
        let Placed { slot, held } = placed;
        self.handles.publish(
            handle,
            Location::live(slot.chain, slot.object, handle.generation()),
            len,
        );
        self.leave(slot.chain, held.release());
    }

    /// Does the work others left in a chain, if a leaving guard was told to.
    pub(crate) fn leave(&self, chain: ChainId, leaving: ReleaseStatus) {
        if leaving == ReleaseStatus::Pending {
            self.reap(chain);
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
            None => self.grow(state, class, ChargePurpose::General, |held, state| {
                self.attach(held, class, 0, state)
            })?,
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
        state.regroup(&self.zspages, slot.chain, class, head);
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
            let mut tries = 0;
            for chain in state.lists[group.index()].iter(&self.zspages).take(MAX_LOOKS) {
                if tries == TRIES {
                    break;
                }
                tries += 1;
                let Some(mut held) = self.zspages.chains().try_exclusive(chain) else { continue };
                match self.choose(&mut held, class, state) {
                    Ok(Some(object)) => return Ok(Some((Slot { chain, object, class }, held))),
                    Ok(None) => tries -= 1,
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
        purpose: ChargePurpose,
        attach: impl FnOnce(&mut Exclusive<'_>, &mut ClassState) -> Result<(), AllocError>,
    ) -> Result<(Slot, Exclusive<'_>), AllocError> {
        let mut held = self.zspages.chains().create_for(chain_kind(class), class.index, purpose)?;
        if let Err(error) = attach(&mut held, state) {
            held.destroy();
            return Err(error);
        }
        let chain = held.id();
        self.zspages.begin(chain, class.index);
        state.lists[Group::EMPTY.index()].add(&self.zspages, chain, 0);
        state.zspages += 1;
        Ok((Slot { chain, object: 0, class }, held))
    }

    /// Picks a free object whose frames are there, else the first one, whose frames are then attached. `None` when memory that has failed is in the way of all.
    pub(crate) fn choose(
        &self,
        held: &mut Exclusive<'_>,
        class: SizeClass,
        state: &mut ClassState,
    ) -> Result<Option<u16>, AllocError> {
        /// Free objects looked at for one that needs no new frame.
        const LOOK: usize = 32;
        let chain = held.id();
        let any_failed = self.zone.failure_reports() != 0;
        let whole = |object| Slot { chain, object, class }.bytes(class.payload());
        let sound = |object: &u16| !(any_failed && held.has_failed(whole(*object)));
        let ready =
            |object: &u16| frames_of(class, *object).all(|position| held.has_frame(position));
        if let Some(object) = self.zspages.free(chain, class).filter(sound).take(LOOK).find(ready) {
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
        self.attach(held, class, object, state)?;
        Ok(Some(object))
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
