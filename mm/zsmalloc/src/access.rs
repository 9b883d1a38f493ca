//! Reading and overwriting objects.

use frames::Shared;

use crate::alloc::alloc_and_write;
use crate::class::MAX_OBJECT;
use crate::error::{AccessError, WriteError};
use crate::free::free_deferred;
use crate::handle::{Handle, Location};
use crate::handles::Handles;
use crate::locate::{Retries, lock_object};
use crate::object::ObjectSlot;
use crate::pool::Pool;

/// A live object, held for reading. Its bytes stay unchanged until this is dropped, also when the
/// object is freed or moved. A thread may hold any number of them; no other waits.
#[derive(Debug)]
pub struct ObjectRef<'p> {
    pool: &'p Pool,
    held: Option<Shared<'p>>,
    slot: ObjectSlot,
    len: usize,
}

impl Pool {
    /// Pins an object for reading. Waits at most for 16 copies of objects in the same zspage.
    ///
    /// # Errors
    /// - [`AccessError::Stale`] when the object was freed.
    /// - [`AccessError::Damaged`] when its header was overwritten.
    /// - [`AccessError::MemoryFailure`] when its memory has failed.
    /// - [`AccessError::TooManyReaders`] when its zspage has two million readers.
    /// - [`AccessError::Poisoned`] when the pool is poisoned.
    pub fn read(&self, handle: Handle) -> Result<ObjectRef<'_>, AccessError> {
        let (held, location, len) = self.pin_object(handle)?;
        let class = self.classes.by_index(held.tag()).ok_or(AccessError::Damaged)?;
        let slot = ObjectSlot::at(location, class);
        let object = ObjectRef { pool: self, held: Some(held), slot, len };
        object.verify(&self.handles, handle)?;
        Ok(object)
    }

    /// Takes the object's chain shared. Returns the guard, the object's location and its length.
    fn pin_object(&self, handle: Handle) -> Result<(Shared<'_>, Location, usize), AccessError> {
        self.check_poison()?;
        let (chains, mut retries) = (&self.zspages.chains, Retries::default());
        loop {
            let location = self.handles.locate(handle)?;
            let len = self.handles.len_of(handle);
            // The bytes are loaded while the chain is taken: no load passes a locked instruction.
            if let Some(class) = self.class_of(location.chain()) {
                chains.prefetch_bytes(location.chain(), ObjectSlot::at(location, class).bytes(len));
            }
            let Some(held) = chains.share(location.chain()) else {
                if chains.has_reached_max_readers(location.chain()) {
                    return Err(AccessError::TooManyReaders);
                }
                retries.note(self)?;
                continue;
            };
            // The chain is held and the object is still there: its bytes stay from here on.
            // Moving or freeing it leaves them, and reusing the slot needs the chain exclusively.
            let again = self.handles.locate(handle);
            if again == Ok(location) {
                return Ok((held, location, len));
            }
            free_deferred(self, location.chain(), held.release());
            again?;
            retries.note(self)?;
        }
    }

    /// Prefetches the handle's location word, for a later read or free.
    pub fn prefetch(&self, handle: Handle) {
        self.handles.prefetch(handle.index());
    }

    /// Prefetches the records of its zspage, some hundred nanoseconds after [`Pool::prefetch`].
    pub fn prefetch_zspage(&self, handle: Handle) {
        if let Ok(location) = self.handles.locate(handle) {
            self.zspages.chains.prefetch(location.chain());
        }
    }

    /// Returns the length of an object. Units: bytes.
    ///
    /// # Errors
    /// [`AccessError::Stale`] when the object was freed, [`AccessError::Poisoned`] when the pool
    /// is poisoned.
    pub fn len(&self, handle: Handle) -> Result<usize, AccessError> {
        self.check_poison()?;
        self.handles.locate(handle)?;
        let len = self.handles.len_of(handle);
        // Still live, so the length was this object's.
        self.handles.locate(handle)?;
        Ok(len)
    }

    /// Overwrites an object of the same length: in place when nothing else holds the zspage, else
    /// out of place. A reader sees the old bytes or the new ones.
    ///
    /// # Errors
    /// Returns [`WriteError`]; the object's content is unchanged.
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

    /// Overwrites in place, or returns `false`: chain busy, object moved, or memory failed.
    fn write_in_place(&self, handle: Handle, bytes: &[u8]) -> Result<bool, WriteError> {
        let location = self.handles.locate(handle)?;
        let chain = location.chain();
        let Some(mut held) = self.zspages.chains.try_exclusive(chain) else { return Ok(false) };
        // While the chain is held the object cannot move, since a move takes the chain shared. It
        // may be freed, which equals a free right after this write.
        let here = self.handles.locate(handle) == Ok(location);
        let class = self.class_of(chain).filter(|_| here);
        // Failed memory is not written, and not trusted if it fails meanwhile.
        let written = class.is_some_and(|class| {
            let slot = ObjectSlot::at(location, class);
            let place = slot.bytes(bytes.len());
            !held.has_failed(place.clone())
                && slot.write(&mut held, handle.index(), (bytes, &[]))
                && !held.has_failed(place)
        });
        free_deferred(self, chain, held.release());
        Ok(written)
    }

    /// Writes the new bytes to another slot and points the handle at it.
    fn write_out_of_place(&self, handle: Handle, bytes: &[u8]) -> Result<(), WriteError> {
        let class = self.classes.for_len(bytes.len()).ok_or(AccessError::Stale)?;
        let unpublished = alloc_and_write(self, class, handle, bytes)?;
        let new = unpublished.slot;
        // Lock order, chain before class: this thread holds the new chain and waits for the
        // class. A holder of the class lock waits for no chain.
        let moved = match lock_object(self, handle) {
            Ok((old, mut state)) => {
                self.handles.relocate(handle, new.chain, new.object);
                state.free_object(old, bytes.len())
            }
            // The object was freed meanwhile: free the new slot, too.
            Err(error) => self.lock(class).free_object(new, bytes.len()).and(Err(error)),
        };
        free_deferred(self, new.chain, unpublished.held.release());
        Ok(moved?)
    }
}

impl ObjectRef<'_> {
    /// Returns the length of the payload. Units: bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns `false`: objects have at least one byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the payload in place. The second piece is empty, unless it crosses into a frame that
    /// is not adjacent.
    #[must_use]
    pub fn pieces(&self) -> (&[u8], &[u8]) {
        // `verify` found these frames attached, and they stay while the chain is held.
        self.held
            .as_ref()
            .and_then(|held| held.pieces(self.slot.payload(self.len)))
            .unwrap_or((&[], &[]))
    }

    /// Checks that the bytes read through this value so far are the object's. They are not if
    /// their memory has failed meanwhile: see [`memory_failure`](sys::memory_failure). Call it
    /// after the last byte was read or copied and before the bytes are used.
    ///
    /// # Errors
    /// Returns [`AccessError::MemoryFailure`] when the object's memory has failed.
    pub fn intact(&self) -> Result<(), AccessError> {
        let failed =
            self.held.as_ref().is_some_and(|held| held.has_failed(self.slot.bytes(self.len)));
        if failed { Err(AccessError::MemoryFailure) } else { Ok(()) }
    }

    /// Returns the payload as one slice; copies it to `scratch` only when it is in two pieces.
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

    /// Returns a copy of the payload.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let (head, tail) = self.pieces();
        [head, tail].concat()
    }

    /// Checks that the header names the handle and that all of the object's frames are attached.
    fn verify(&self, handles: &Handles, handle: Handle) -> Result<(), AccessError> {
        let held = self.held.as_ref().ok_or(AccessError::Damaged)?;
        held.pieces(self.slot.payload(self.len)).ok_or(AccessError::Damaged)?;
        let named = self.slot.class.is_huge() || self.slot.header(held) == Some(handle.index());
        // Check after reading the header: that read can be the first to meet failed memory.
        self.intact()?;
        // The slot can have been freed and reused only if the handle is stale now.
        if named { Ok(()) } else { handles.locate(handle).and(Err(AccessError::Damaged)) }
    }
}

impl Drop for ObjectRef<'_> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            free_deferred(self.pool, self.slot.chain, held.release());
        }
    }
}
