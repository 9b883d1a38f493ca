//! The configuration of a device, and the sizes of its parts.

use block::Bytes;
use frames::{CmaRegion, FrameCount, Movability, PAGEBLOCK_FRAMES, Pfn, ZoneConfig};
use page::{PAGE_SIZE, Streams};
use sys::Backing;
use zcomp::{Algorithm, StreamError};
use zsmalloc::{ChainRule, PoolConfig};

/// The size of the largest device: 2 TiB, so that 32-bit numbers suffice for its pages and for
/// their frames when nothing compresses. Units: bytes.
pub const MAX_SIZE: u64 = 2 << 40;
/// The least number of free pageblocks that stay committed for the next writes; a 64th of those in
/// use if that is more ([`frames::Zone::kept`]). 2 MiB matter in what a small disk holds.
const MIN_KEPT_BLOCKS: u32 = 1;
/// The share of the memory limit that streams may take, as a divisor. One stream is always there.
const STREAM_LIMIT_DIVISOR: u64 = 4;

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
    /// The size that clients see: 1 byte to [`crate::MAX_SIZE`], not only whole pages.
    pub size: Bytes,
    /// The codec and its level.
    pub algorithm: Algorithm,
    /// The most memory the device may hold, rounded up to a frame; `None` for no limit. It counts
    /// frames in use and free, all tables, codec contexts and ballooned frames, so
    /// [`MemoryBreakdown::mem_total`](crate::MemoryBreakdown::mem_total) never exceeds it. Reads,
    /// discards and compaction need no memory beyond it.
    pub mem_limit: Option<Bytes>,
    /// Whether clients may change the content.
    pub access: Access,
    /// The most frames in a zspage: 1 to 16.
    pub chain: u8,
    /// How a size class chooses the length of its zspages.
    pub rule: ChainRule,
    /// The most frames, rounded up to whole 2 MiB pageblocks; `None` for what the device needs when
    /// nothing compresses. A smaller value matters only where a balloon or an experiment needs a
    /// zone without unused frames. A cache of hot pages adds one pageblock.
    pub arena: Option<Bytes>,
    /// The CMA area at the end of the arena, rounded up to whole 2 MiB pageblocks; `None` for none.
    pub contiguous: Option<Bytes>,
    /// The backing of the device's memory.
    pub backing: Backing,
    /// Whether frames may be migrated. Off is for comparison: zsmalloc before it had migration.
    pub movability: Movability,
    /// Whether frames of zspages may be migrated, too. Off pins them alone, for comparison.
    pub zspages: Movability,
    /// The most memory for uncompressed hot pages, rounded up to a frame; `None` for no cache.
    pub hot_cache: Option<Bytes>,
}

impl ZramConfig {
    /// Returns the configuration of a writable device with the default codec and no limit.
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

    /// Creates the streams: one per CPU, since more would only compete for the caches; fewer where
    /// they would exceed their share of the limit.
    pub(crate) fn streams(&self) -> Result<Streams, StreamError> {
        let max_bytes = self.mem_limit.map_or(u64::MAX, |limit| limit.0 / STREAM_LIMIT_DIVISOR);
        Streams::with_memory_limit(self.algorithm, sys::host::cpus().min(64), max_bytes)
    }

    pub(crate) fn pages(&self) -> u64 {
        self.size.0.div_ceil(PAGE_SIZE as u64)
    }

    pub(crate) fn zone(&self) -> ZoneConfig {
        let (capacity, cma) = self.arena_layout();
        let limit = FrameCount(capacity.0.saturating_sub(self.arena_margin()));
        ZoneConfig {
            capacity,
            cma,
            // Only a cache sets a limit on frames, since it needs frames above it.
            limit: self.cache_size().map(|_| limit),
            memory_limit: self.mem_limit.map(round_up_to_pages),
            backing: self.backing,
            movability: self.movability,
            keep_blocks: MIN_KEPT_BLOCKS,
            ..ZoneConfig::default()
        }
    }

    pub(crate) fn pool(&self) -> PoolConfig {
        // An index is retired after 16 million uses, so there are twice as many as pages.
        let objects = u32::try_from(self.pages() * 2 + (1 << 16)).unwrap_or(u32::MAX);
        PoolConfig {
            chain: self.chain,
            rule: self.rule,
            max_objects: Some(objects),
            movability: self.zspages,
            ..PoolConfig::default()
        }
    }

    /// Returns the arena's frames, and the CMA area at its end.
    pub(crate) fn arena_layout(&self) -> (FrameCount, Option<CmaRegion>) {
        let block_frames = u64::from(PAGEBLOCK_FRAMES);
        let whole = |bytes: u64| FrameCount::holding(bytes).0.next_multiple_of(block_frames);
        // Enough when nothing compresses: one frame per page, and some more for new content that is
        // stored before the old is freed, for per-CPU lists, and for partly filled classes.
        let needed = (self.pages() + self.pages() / 32 + 8192) * PAGE_SIZE as u64;
        let arena = self.arena.map_or(needed, |arena| arena.0.min(needed));
        let capacity = whole(arena) + self.arena_margin();
        let region = self.contiguous.map(|bytes| {
            let frames = whole(bytes.0).min(capacity);
            // A zone has fewer frames than 32 bits can number; creating a larger one fails.
            CmaRegion { first: Pfn((capacity - frames) as u32), frames: FrameCount(frames) }
        });
        (FrameCount(capacity), region)
    }

    /// Returns the frames of the arena above every limit. A hot page is compressed before its frame
    /// is free, so a full cache needs one more for a moment ([`frames::Zone::allow_over_limit`]).
    fn arena_margin(&self) -> u64 {
        self.cache_size().map_or(0, |_| PAGEBLOCK_FRAMES.into())
    }

    pub(crate) fn cache_size(&self) -> Option<Bytes> {
        self.hot_cache.filter(|size| size.0 > 0)
    }
}

/// Returns the memory limit as it is enforced and shown. Units: bytes.
pub(crate) fn round_up_to_pages(limit: Bytes) -> u64 {
    FrameCount::holding(limit.0).bytes()
}
