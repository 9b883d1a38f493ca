//! The zpool face: what a compressed cache asks of the pool under it, and no more (R-455).
//!
//! The kernel had this layer between zswap and its allocators. A cache written against [`Zpool`] can sit on a pool of its own or share one, and
//! a test can put something else in its place.

use std::fmt::Debug;

use frames::FrameCount;
use thiserror::Error;

use crate::{AccessError, AllocError, Handle, MapMode, Mapped, Pool};

/// A pool of compressed pages, by its smallest interface.
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
    /// The allocator's name.
    fn kind(&self) -> &'static str;

    /// A new object of `len` zero bytes.
    ///
    /// # Errors
    /// [`AllocError`]; nothing has changed then.
    fn malloc(&self, len: usize) -> Result<Handle, AllocError>;

    /// Frees an object and says how long it was.
    ///
    /// # Errors
    /// [`AccessError::Stale`] when it was freed before.
    fn free(&self, handle: Handle) -> Result<usize, AccessError>;

    /// Maps an object; [`MapMode::ReadWrite`] is the mode to use when in doubt.
    ///
    /// # Errors
    /// [`AccessError`] when it cannot be reached.
    fn map(&self, handle: Handle, mode: MapMode) -> Result<Mapped<'_>, AccessError>;

    /// What the objects' frames take. Units: bytes.
    fn total_size(&self) -> u64;

    /// Has the pool evict objects until this many frames are free.
    ///
    /// # Errors
    /// [`EvictUnsupported`] from pools that do not know whose objects they hold.
    fn evict(&self, frames: FrameCount) -> Result<FrameCount, EvictUnsupported>;
}

/// The pool cannot evict: only its user knows which object may go. It can be [compacted](Pool::compact) instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this pool cannot evict objects: it does not know whose they are")]
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
