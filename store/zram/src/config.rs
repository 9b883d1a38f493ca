//! The configuration of a device.

use block::Bytes;
use frames::Movability;
use sys::Backing;
use zcomp::Algorithm;
use zsmalloc::ChainRule;

/// Whether clients may change the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Clients may read and write.
    #[default]
    ReadWrite,
    /// Writes, discards and zeroing are refused.
    ReadOnly,
}

/// The configuration of a [`crate::Zram`]. Fixed for its life, apart from the limit.
///
/// ```
/// use block::Bytes;
/// use zram::{Zram, ZramConfig};
/// let config = ZramConfig { mem_limit: Some(Bytes(64 << 20)), ..ZramConfig::new(Bytes(1 << 30))
/// };
/// let disk = Zram::new(config)?;
/// # Ok::<(), zram::ZramError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZramConfig {
    /// The size that clients see: 1 byte to [`crate::MAX_SIZE`], not necessarily a multiple of a
    /// page.
    pub size: Bytes,
    /// The codec and its level.
    pub algorithm: Algorithm,
    /// The most memory the device may hold, rounded up to a frame; `None` for no limit. It counts
    /// frames in use and free, all tables, codec contexts and ballooned frames, so
    /// [`MemoryBreakdown::mem_total`](crate::MemoryBreakdown::mem_total) never exceeds it. A few
    /// frames of it are kept free for compaction.
    pub mem_limit: Option<Bytes>,
    /// Whether clients may change the content.
    pub access: Access,
    /// The most frames in a zspage: 1 to 16.
    pub chain: u8,
    /// How a size class chooses the length of its zspages.
    pub rule: ChainRule,
    /// The most frames, rounded up to whole 2 MiB pageblocks; `None` for what the device needs
    /// when nothing compresses. It costs address space only, so a smaller value matters only
    /// where a balloon or an experiment needs a zone without unused frames. A cache of hot pages
    /// adds one pageblock, which it needs for a moment at the limit.
    pub arena: Option<Bytes>,
    /// The CMA area at the end of the arena, rounded up to whole 2 MiB pageblocks: it holds no
    /// unmovable frames, so that contiguous allocations succeed. `None` for none.
    pub contiguous: Option<Bytes>,
    /// The backing of the device's memory.
    pub backing: Backing,
    /// Whether frames may be migrated. Off is for comparison: zsmalloc before it had migration.
    pub movability: Movability,
    /// Whether frames of zspages may be migrated when others may. Off pins them alone, for
    /// comparison.
    pub zspages: Movability,
    /// The most memory for frames of uncompressed hot pages, rounded up to a frame; `None` for no
    /// cache.
    pub hot_cache: Option<Bytes>,
}

impl ZramConfig {
    /// Creates the configuration of a writable device of this size, with the default codec and no
    /// limit.
    #[must_use]
    pub fn new(size: Bytes) -> Self {
        Self {
            size,
            algorithm: Algorithm::default(),
            mem_limit: None,
            access: Access::ReadWrite,
            chain: frames::MAX_CHAIN as u8,
            rule: ChainRule::LeastWaste,
            arena: None,
            contiguous: None,
            backing: Backing::Anonymous,
            movability: Movability::On,
            zspages: Movability::On,
            hot_cache: None,
        }
    }
}
