//! The zpool interface: what a compressed cache needs from its pool (R-455).
//!
//! The kernel had this layer between zswap and its allocators. A cache written against [`Zpool`]
//! can own a pool or share one, and tests can replace the pool.

use std::fmt::Debug;

use frames::FrameCount;
use thiserror::Error;

use crate::error::{AccessError, AllocError};
use crate::handle::Handle;
use crate::map::{MapMode, Mapped};
use crate::pool::Pool;

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

/// The pool cannot evict: only the pool's user can choose an object. The pool can be
/// [compacted](Pool::compact) instead.
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
