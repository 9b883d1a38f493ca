//! How a device is set up.

use block::Bytes;
use frames::Movability;
use sys::Backing;
use zcomp::Algorithm;
use zsmalloc::ChainRule;

/// Whether clients may change the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Everything is allowed.
    #[default]
    ReadWrite,
    /// Changes are refused.
    ReadOnly,
}

/// What a [`crate::Zram`] is made of. Fixed for its life, apart from the limit.
///
/// ```
/// use block::Bytes;
/// use zram::{Zram, ZramConfig};
/// let disk = Zram::new(ZramConfig { mem_limit: Some(Bytes(64 << 20)), ..ZramConfig::new(Bytes(1 << 30)) })?;
/// # Ok::<(), zram::ZramError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZramConfig {
    /// What clients see: 1 byte to [`crate::MAX_SIZE`]; it need not be a multiple of a page.
    pub size: Bytes,
    /// The codec.
    pub algorithm: Algorithm,
    /// The most the device may hold in all, rounded up to a frame; `None` for no limit. Frames in use and free, all tables, codec contexts and what a balloon
    /// lent from its zone count, so [`MemoryBreakdown::mem_total`](crate::MemoryBreakdown::mem_total) never passes it. A few frames of it are kept for moving content
    /// together.
    pub mem_limit: Option<Bytes>,
    /// Whether clients may change it.
    pub access: Access,
    /// Frames in a zspage at most: 1 to 16.
    pub chain: u8,
    /// How a size class chooses its chain.
    pub rule: ChainRule,
    /// Room for frames at most, rounded up to whole blocks of 2 MiB; `None` for what the device needs when nothing compresses. It costs address space only,
    /// so less is of use where a balloon or an experiment needs a zone without room that is never used. A cache of hot
    /// pages adds one block, which it passes through at the limit.
    pub arena: Option<Bytes>,
    /// The end of that room, which is kept free of frames that cannot move, for contiguous allocations from the zone; rounded up to whole blocks of
    /// 2 MiB. `None` for none.
    pub contiguous: Option<Bytes>,
    /// Where its memory comes from.
    pub backing: Backing,
    /// Whether frames may be moved: off is how the kernel was before it could, for comparison.
    pub movability: Movability,
    /// Whether frames of zspages may be moved where others are: off pins these alone, for
    /// comparison.
    pub zspages: Movability,
    /// The most the frames of the cache of uncompressed hot pages may take, rounded up to a frame; `None` for no cache.
    pub hot_cache: Option<Bytes>,
}

impl ZramConfig {
    /// A device of this size that clients may change, with the default codec and no limit.
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
