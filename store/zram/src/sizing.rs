//! The sizes of a device's parts, computed from its configuration.

use block::Bytes;
use frames::{CmaRegion, FrameCount, PAGEBLOCK_FRAMES, Pfn, ZoneConfig};
use page::{PAGE_SIZE, Streams};
use zcomp::StreamError;
use zsmalloc::PoolConfig;

use crate::config::ZramConfig;

/// The size of the largest device: 2 TiB, so that 32-bit numbers suffice for its pages and for
/// their frames when nothing compresses. Units: bytes.
pub const MAX_SIZE: u64 = 2 << 40;

/// The least number of free pageblocks that stay committed for the next writes; a 64th of those
/// in use if that is more ([`frames::Zone::kept`]). It is one, since 2 MiB matter in what a small
/// disk holds.
const MIN_KEPT_BLOCKS: u32 = 1;
/// The share of the memory limit that streams may take, as a divisor. One stream is always there.
const STREAM_LIMIT_DIVISOR: u64 = 4;

/// Creates the streams of the device. One per CPU, since more would only compete for the caches;
/// fewer where they would exceed their share of the limit.
pub(crate) fn streams(config: &ZramConfig) -> Result<Streams, StreamError> {
    let max_bytes = config.mem_limit.map_or(u64::MAX, |limit| limit.0 / STREAM_LIMIT_DIVISOR);
    Streams::with_memory_limit(config.algorithm, sys::host::cpus().min(64), max_bytes)
}

/// Returns the number of pages of the device.
pub(crate) fn pages(config: &ZramConfig) -> u64 {
    config.size.0.div_ceil(PAGE_SIZE as u64)
}

/// Returns the configuration of the device's zone.
pub(crate) fn zone_config(config: &ZramConfig) -> ZoneConfig {
    let (capacity, cma) = arena_layout(config);
    // Only a cache sets a limit on frames, since it needs frames above it.
    let limit = capacity.0.saturating_sub(arena_margin(config));
    ZoneConfig {
        capacity,
        cma,
        limit: hot_cache(config).map(|_| FrameCount(limit)),
        memory_limit: config.mem_limit.map(round_up_to_pages),
        backing: config.backing,
        movability: config.movability,
        keep_blocks: MIN_KEPT_BLOCKS,
        ..ZoneConfig::default()
    }
}

/// Returns the configuration of the device's pool.
pub(crate) fn pool_config(config: &ZramConfig) -> PoolConfig {
    // An index is retired after 16 million uses, so there are twice as many as pages.
    let objects = u32::try_from(pages(config) * 2 + (1 << 16)).unwrap_or(u32::MAX);
    PoolConfig {
        chain: config.chain,
        rule: config.rule,
        max_objects: Some(objects),
        movability: config.zspages,
        ..PoolConfig::default()
    }
}

/// Returns the arena's frames, and the CMA area at its end.
pub(crate) fn arena_layout(config: &ZramConfig) -> (FrameCount, Option<CmaRegion>) {
    let block_frames = u64::from(PAGEBLOCK_FRAMES);
    let whole = |bytes: u64| FrameCount::holding(bytes).0.next_multiple_of(block_frames);
    // Enough when nothing compresses: one frame per page, and some more for new content that is
    // stored before the old is freed, for per-CPU lists, and for partly filled classes.
    let pages = pages(config);
    let needed = (pages + pages / 32 + 8192) * PAGE_SIZE as u64;
    let arena = config.arena.map_or(needed, |arena| arena.0.min(needed));
    let capacity = whole(arena) + arena_margin(config);
    let region = config.contiguous.map(|bytes| {
        let frames = whole(bytes.0).min(capacity);
        // A zone has fewer frames than 32 bits can number; creating a larger one fails.
        CmaRegion { first: Pfn((capacity - frames) as u32), frames: FrameCount(frames) }
    });
    (FrameCount(capacity), region)
}

/// Returns the memory limit as it is enforced and shown. Units: bytes.
pub(crate) fn round_up_to_pages(limit: Bytes) -> u64 {
    FrameCount::holding(limit.0).bytes()
}

/// Returns the frames of the arena that are above every limit. A hot page is compressed before
/// its frame is free, so a full cache needs another frame for a moment
/// ([`frames::Zone::allow_over_limit`]).
fn arena_margin(config: &ZramConfig) -> u64 {
    hot_cache(config).map_or(0, |_| PAGEBLOCK_FRAMES.into())
}

/// Returns the size of the cache of hot pages, if the device has one.
pub(crate) fn hot_cache(config: &ZramConfig) -> Option<Bytes> {
    config.hot_cache.filter(|size| size.0 > 0)
}
