//! The original's interface: map an object for reading, writing or both, and unmap it.
//!
//! It is built on [`Pool::read`] and [`Pool::write`]. Each mapping has its own buffer, so
//! mappings nest, and there is no per-CPU buffer that two users could share (R-295, R-296, S-35,
//! S-36, B12).

use std::ops::{Deref, DerefMut};

use crate::access::ObjectRef;
use crate::class::MAX_OBJECT;
use crate::error::{AccessError, WriteError};
use crate::handle::Handle;
use crate::pool::Pool;

/// Purpose of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapMode {
    /// Read: changes are not written back.
    ReadOnly,
    /// Write: starts as zeros; all of it is written back.
    WriteOnly,
    /// Read and write: starts as the object's bytes; all of it is written back.
    ReadWrite,
}

/// A mapped object: a slice of its payload. [`Mapped::unmap`] writes it back where the mode says
/// so. Dropping it does so, too, but cannot report a failure.
#[derive(Debug)]
pub struct Mapped<'p> {
    pool: &'p Pool,
    handle: Handle,
    mode: MapMode,
    bytes: Box<[u8]>,
}

impl Pool {
    /// Maps an object by copying its payload.
    ///
    /// # Errors
    /// Returns [`AccessError`] when the object cannot be accessed.
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
    /// Ends the mapping and writes the bytes back unless it is read-only.
    ///
    /// # Errors
    /// Returns [`WriteError`] when the bytes cannot be written back: the object was freed, or is
    /// being read and its new content could not be allocated.
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
        // A drop cannot report the error; `unmap` does.
        let _ = self.write_back();
    }
}
