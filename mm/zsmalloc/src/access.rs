//! Reading and overwriting objects.

use frames::Shared;

use crate::handle::{Handle, Location};
use crate::handles::Handles;
use crate::object::ObjectSlot;
use crate::pool::Pool;
use crate::{AccessError, MAX_OBJECT, WriteError};

/// A live object, held for reading. The object may be freed or moved meanwhile: its bytes stay until this is dropped.
///
/// Any number may be held, by one thread too, for any time; nobody waits for it.
#[derive(Debug)]
pub struct ObjectRef<'p> {
    pool: &'p Pool,
    held: Option<Shared<'p>>,
    slot: ObjectSlot,
    len: usize,
}

impl Pool {
    /// Finds an object for reading. Waits at most while a neighbour in its zspage is being written or moved: one copy.
    ///
    /// # Errors
    /// [`AccessError::Stale`] when it was freed; [`AccessError::Damaged`] when its header was overwritten; [`AccessError::MemoryFailure`] when its memory
    /// has failed; [`AccessError::Poisoned`] when the pool is out of order.
    pub fn read(&self, handle: Handle) -> Result<ObjectRef<'_>, AccessError> {
        let (held, location, len) = self.pin_object(handle)?;
        let class = self.classes.by_index(held.tag()).ok_or(AccessError::Damaged)?;
        let slot = ObjectSlot { chain: location.chain(), object: location.object(), class };
        let object = ObjectRef { pool: self, held: Some(held), slot, len };
        object.verify(&self.handles, handle)?;
        Ok(object)
    }

    /// Takes the chain shared that holds the object now; tells where it is and how long.
    fn pin_object(&self, handle: Handle) -> Result<(Shared<'_>, Location, usize), AccessError> {
        self.check_poison()?;
        let mut retries = 0;
        loop {
            let location = self.handles.locate(handle)?;
            let len = self.handles.len_of(handle);
            self.prefetch_object(location, len);
            let Some(held) = self.zspages.chains().share(location.chain()) else {
                if self.zspages.chains().has_reached_max_readers(location.chain()) {
                    return Err(AccessError::TooManyReaders);
                }
                self.note_retry(&mut retries)?;
                continue;
            };
            // Inside the chain and still there: from here on its bytes stay. Moving it away or freeing it leaves them as they are, and using
            // them again needs the chain alone.
            let again = self.handles.locate(handle);
            if again == Ok(location) {
                return Ok((held, location, len));
            }
            self.free_deferred_if_pending(location.chain(), held.release());
            again?;
            self.note_retry(&mut retries)?;
        }
    }

    /// Starts loading an object's bytes while its chain is being taken: cold memory is most of what a read costs, and locked instructions let nothing
    /// pass them.
    fn prefetch_object(&self, location: Location, len: usize) {
        let chains = self.zspages.chains();
        let class = chains.tag(location.chain()).and_then(|tag| self.classes.by_index(tag));
        if let Some(class) = class {
            let slot = ObjectSlot { chain: location.chain(), object: location.object(), class };
            chains.prefetch_bytes(slot.chain, slot.bytes(len));
        }
    }

    /// How long an object is.
    ///
    /// # Errors
    /// [`AccessError::Stale`] when it was freed, [`AccessError::Poisoned`] when the pool is out of order.
    pub fn len(&self, handle: Handle) -> Result<usize, AccessError> {
        self.check_poison()?;
        self.handles.locate(handle)?;
        let len = self.handles.len_of(handle);
        // Still live, so the length was this object's.
        self.handles.locate(handle)?;
        Ok(len)
    }

    /// Overwrites an object; a reader sees the old bytes or the new ones.
    ///
    /// In place when nobody is inside its zspage, else beside the old bytes, which their readers keep.
    ///
    /// # Errors
    /// [`WriteError`]; the object holds what it held.
    pub fn write(&self, handle: Handle, bytes: &[u8]) -> Result<(), WriteError> {
        let expected = self.len(handle)?;
        if expected != bytes.len() {
            return Err(WriteError::Length { expected, given: bytes.len() });
        }
        if self.write_in_place(handle, bytes)? {
            return Ok(());
        }
        self.write_out_of_place(handle, bytes)
    }

    fn write_in_place(&self, handle: Handle, bytes: &[u8]) -> Result<bool, WriteError> {
        let location = self.handles.locate(handle)?;
        let chain = location.chain();
        let Some(mut held) = self.zspages.chains().try_exclusive(chain) else { return Ok(false) };
        // Alone in the chain and still there: it cannot be moved, since that needs the chain shared. It may be freed, which is as if it were
        // freed right after this write.
        let class = self.zspages.chains().tag(chain).and_then(|tag| self.classes.by_index(tag));
        let here = self.handles.locate(handle) == Ok(location);
        let slot = class.filter(|_| here).map(|class| ObjectSlot {
            chain,
            object: location.object(),
            class,
        });
        // Not into memory that has failed, nor if it fails while we write: the other way leads elsewhere.
        let written = slot.is_some_and(|slot| {
            let place = slot.bytes(bytes.len());
            !held.has_failed(place.clone())
                && slot.write(&mut held, handle.index(), bytes)
                && !held.has_failed(place)
        });
        self.free_deferred_if_pending(chain, held.release());
        Ok(written)
    }

    /// Writes the new bytes to another slot and points the handle at it.
    fn write_out_of_place(&self, handle: Handle, bytes: &[u8]) -> Result<(), WriteError> {
        let class = self.classes.for_len(bytes.len()).ok_or(AccessError::Stale)?;
        let unpublished = self.alloc_and_write(class, handle, bytes)?;
        let new = unpublished.slot;
        // Chain before class: we hold the new chain and wait for the class, whose holder waits for no chain.
        let moved = match self.lock_object(handle) {
            Ok((old, mut state)) => {
                self.handles
                    .relocate(handle, Location::live(new.chain, new.object, handle.generation()));
                state.live_bytes -= bytes.len() as u64;
                self.free_object(&mut state, old)
            }
            // Freed meanwhile: the new slot goes the same way.
            Err(error) => {
                let mut state = self.lock(class);
                state.live_bytes -= bytes.len() as u64;
                self.free_object(&mut state, new).and(Err(error))
            }
        };
        self.free_deferred_if_pending(new.chain, unpublished.held.release());
        Ok(moved?)
    }
}

impl ObjectRef<'_> {
    /// Payload bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never true: objects have at least one byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The payload, without a copy: two pieces when it crosses into a frame that is no neighbour, else the second is empty.
    #[must_use]
    pub fn pieces(&self) -> (&[u8], &[u8]) {
        // `verify` has looked at these very frames, and they stay while we are inside.
        self.held
            .as_ref()
            .and_then(|held| held.pieces(self.slot.payload(self.len)))
            .unwrap_or((&[], &[]))
    }

    /// Tells whether the bytes that were read through this value so far are the object's. They are not when memory they lie in has failed meanwhile:
    /// [`memory_failure`](sys::memory_failure). Ask after the last byte was read or copied, and before anything is made of it.
    ///
    /// # Errors
    /// [`AccessError::MemoryFailure`].
    pub fn intact(&self) -> Result<(), AccessError> {
        let failed =
            self.held.as_ref().is_some_and(|held| held.has_failed(self.slot.bytes(self.len)));
        if failed { Err(AccessError::MemoryFailure) } else { Ok(()) }
    }

    /// The payload as one slice, copied to `scratch` only when it is in two pieces.
    #[must_use]
    pub fn contiguous<'a>(&'a self, scratch: &'a mut [u8; MAX_OBJECT]) -> &'a [u8] {
        let (head, tail) = self.pieces();
        if tail.is_empty() {
            return head;
        }
        scratch[..head.len()].copy_from_slice(head);
        scratch[head.len()..self.len].copy_from_slice(tail);
        &scratch[..self.len]
    }

    /// A copy of the payload.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let (head, tail) = self.pieces();
        [head, tail].concat()
    }

    /// Checks that the bytes before the object name the handle it was found by, and that all its frames are there.
    fn verify(&self, handles: &Handles, handle: Handle) -> Result<(), AccessError> {
        let held = self.held.as_ref().ok_or(AccessError::Damaged)?;
        held.pieces(self.slot.payload(self.len)).ok_or(AccessError::Damaged)?;
        let named = self.slot.class.is_huge() || self.slot.header(held) == Some(handle.index());
        // Afterwards: reading the header can be what meets failed memory.
        self.intact()?;
        // A free and a new object may have come between only if the handle went stale.
        if named { Ok(()) } else { handles.locate(handle).and(Err(AccessError::Damaged)) }
    }
}

impl Drop for ObjectRef<'_> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.pool.free_deferred_if_pending(self.slot.chain, held.release());
        }
    }
}
