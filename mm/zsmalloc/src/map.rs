//! The interface of the original: map an object for reading, writing or both, and unmap it.
//!
//! [`Pool::read`] and [`Pool::write`] are what it stands on. A mapping holds a buffer of its own where it needs one, so mappings nest, and
//! there is no per-CPU buffer for two users to meet in (R-295, R-296, S-35, S-36, B12).

use std::ops::{Deref, DerefMut};

use crate::handle::Handle;
use crate::{AccessError, MAX_OBJECT, ObjectRef, Pool, WriteError};

/// What a mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapMode {
    /// Read only: changes are not written back.
    ReadOnly,
    /// Write only: starts as zeros, and all of it is written back.
    WriteOnly,
    /// Read and write.
    ReadWrite,
}

/// A mapped object. Reads as a slice of its payload; [`Mapped::unmap`] writes it back where the mode says so, and so does dropping it, which cannot
/// report a failure.
#[derive(Debug)]
pub struct Mapped<'p> {
    pool: &'p Pool,
    handle: Handle,
    mode: MapMode,
    bytes: Box<[u8]>,
}

impl Pool {
    /// Maps an object.
    ///
    /// # Errors
    /// [`AccessError`] when it cannot be reached.
    pub fn map(&self, handle: Handle, mode: MapMode) -> Result<Mapped<'_>, AccessError> {
        let bytes = match mode {
            MapMode::WriteOnly => vec![0; self.len(handle)?],
            MapMode::ReadOnly | MapMode::ReadWrite => {
                let object = self.read(handle)?;
                let copy = ObjectRef::to_vec(&object);
                object.intact()?;
                copy
            }
        };
        debug_assert!(bytes.len() <= MAX_OBJECT);
        Ok(Mapped { pool: self, handle, mode, bytes: bytes.into() })
    }
}

impl Mapped<'_> {
    /// Ends the mapping.
    ///
    /// # Errors
    /// [`WriteError`] when the bytes cannot be written back: the object was freed, or there is no room beside readers of its old bytes.
    pub fn unmap(mut self) -> Result<(), WriteError> {
        let result = self.write_back();
        self.mode = MapMode::ReadOnly;
        result
    }

    fn write_back(&mut self) -> Result<(), WriteError> {
        if self.mode == MapMode::ReadOnly {
            return Ok(());
        }
        self.pool.write(self.handle, &self.bytes)
    }
}

impl Deref for Mapped<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Mapped<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Mapped<'_> {
    fn drop(&mut self) {
        // Whoever wants to know uses `unmap`.
        let _ = self.write_back();
    }
}
