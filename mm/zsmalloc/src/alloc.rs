//! Allocation: find a slot, write the object, publish its handle.
//!
//! An object is written once, before its handle is known. The slot's bit is set under the class
//! lock. The bytes are copied with only the chain held. The location word is published before the
//! chain is released.

mod unpublished;
mod slot;

use frames::{ChargePurpose, Reservation};

use crate::class::{MAX_OBJECT, SizeClass};
use crate::error::AllocError;
use crate::handle::Handle;
use crate::pool::Pool;
use unpublished::UnpublishedObject;

/// Maximum slots tried for an object whose memory fails while it is written.
const MAX_WRITE_ATTEMPTS: usize = 8;

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
            Ok(Some(unpublished)) => {
                unpublished.publish();
                Ok(handle)
            }
            // The frame's memory failed: store without the reservation.
            Ok(None) => {
                self.handles.free_index(handle);
                self.store(bytes)
            }
            Err(error) => {
                self.handles.free_index(handle);
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
