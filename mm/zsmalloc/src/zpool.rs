//! The original's interfaces: an object mapped for reading, writing or both, and zpool, what a
//! compressed cache needs from its pool (R-455).
//!
//! The kernel had zpool between zswap and its allocators. A cache written against [`Zpool`] can
//! own a pool or share one, and tests can replace the pool. Each mapping has its own buffer, so
//! mappings nest, and there is no per-CPU buffer that two users could share (R-295, R-296, S-35,
//! S-36, B12).

use std::fmt::Debug;
use std::ops::{Deref, DerefMut};

use frames::FrameCount;
use thiserror::Error;

use crate::access::ObjectRef;
use crate::class::MAX_OBJECT;
use crate::error::{AccessError, AllocError, WriteError};
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
        self.write_back()
    }

    /// Writes the bytes back unless it is read-only, which it then becomes.
    fn write_back(&mut self) -> Result<(), WriteError> {
        match std::mem::replace(&mut self.mode, MapMode::ReadOnly) {
            MapMode::ReadOnly => Ok(()),
            MapMode::WriteOnly | MapMode::ReadWrite => self.pool.write(self.handle, &self.bytes),
        }
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

/// A pool of compressed pages.
///
/// ```
/// use std::sync::Arc;
/// use frames::{Zone, ZoneConfig};
/// use zsmalloc::{MapMode, Pool, PoolConfig, Zpool};
///
/// let zone = Arc::new(Zone::new(ZoneConfig::default())?);
/// let pool: Arc<dyn Zpool> = Pool::new(zone, PoolConfig::default())?;
/// let handle = pool.malloc(1000)?;
/// let mut mapped = pool.map(handle, MapMode::WriteOnly)?;
/// mapped.fill(7);
/// mapped.unmap()?;
/// assert_eq!(pool.total_size(), 4096);
/// pool.free(handle)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Zpool: Debug + Send + Sync {
    /// Returns the allocator's name.
    fn kind(&self) -> &'static str;

    /// Allocates an object of `len` zero bytes.
    ///
    /// # Errors
    /// Returns [`AllocError`]; the pool is unchanged.
    fn malloc(&self, len: usize) -> Result<Handle, AllocError>;

    /// Frees an object and returns its length. Units: bytes.
    ///
    /// # Errors
    /// [`AccessError::Stale`] when the object was freed before.
    fn free(&self, handle: Handle) -> Result<usize, AccessError>;

    /// Maps an object. [`MapMode::ReadWrite`] works for every use.
    ///
    /// # Errors
    /// Returns [`AccessError`] when the object cannot be accessed.
    fn map(&self, handle: Handle, mode: MapMode) -> Result<Mapped<'_>, AccessError>;

    /// Returns the size of the objects' frames. Units: bytes.
    fn total_size(&self) -> u64;

    /// Evicts objects until this many frames are free. Returns the frames freed.
    ///
    /// # Errors
    /// Returns [`EvictUnsupported`] from pools that do not know the users of their objects.
    fn evict(&self, frames: FrameCount) -> Result<FrameCount, EvictUnsupported>;
}

/// The pool cannot evict: only its user can choose an object. [`Pool::compact`] works instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the pool cannot evict objects: it does not know their users")]
pub struct EvictUnsupported;

impl Zpool for Pool {
    fn kind(&self) -> &'static str {
        "zsmalloc"
    }

    fn malloc(&self, len: usize) -> Result<Handle, AllocError> {
        Pool::malloc(self, len)
    }

    fn free(&self, handle: Handle) -> Result<usize, AccessError> {
        Pool::free(self, handle)
    }

    fn map(&self, handle: Handle, mode: MapMode) -> Result<Mapped<'_>, AccessError> {
        Pool::map(self, handle, mode)
    }

    fn total_size(&self) -> u64 {
        FrameCount(self.frames()).bytes()
    }

    fn evict(&self, _: FrameCount) -> Result<FrameCount, EvictUnsupported> {
        Err(EvictUnsupported)
    }
}
