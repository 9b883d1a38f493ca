//! How a zone is set up, and what of that is possible.

use std::ops::Range;

use sys::Backing;

use crate::error::ZoneError;
use crate::geometry::{PAGEBLOCK_FRAMES, PAGEBLOCK_SIZE};
use crate::migrate::Movability;
use crate::units::{FrameCount, Pfn};

/// What a zone is made of.
#[derive(Clone, Copy, Debug)]
pub struct ZoneConfig {
    /// Frames there can be, rounded up to whole pageblocks. Costs address space only.
    pub capacity: FrameCount,
    /// Frames that may be in use; `None` for all.
    pub limit: Option<FrameCount>,
    /// What the zone may hold in all: frames, its tables, and what owners [charge](crate::Zone::charge); `None` for any amount. Below 128 MiB the arena
    /// uses small pages, so that it holds no more than was asked for. Units: bytes.
    pub memory_limit: Option<u64>,
    /// Where the memory comes from.
    pub backing: Backing,
    /// Free pageblocks whose memory is kept for the next request, at least. See [`Zone::trim`](crate::Zone::trim).
    pub keep_blocks: u32,
    /// Per-CPU lists; `None` for one a CPU.
    pub lists: Option<usize>,
    /// Whether frames of registered owners can be moved.
    pub movability: Movability,
    /// Frames set aside for [`Zone::alloc_contig_range`](crate::Zone::alloc_contig_range). Until it takes them, single movable frames may borrow them, and nobody else.
    pub cma: Option<CmaRegion>,
}

/// A range of frames: whole pageblocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CmaRegion {
    /// The first one.
    pub first: Pfn,
    /// How many.
    pub frames: FrameCount,
}

impl Default for ZoneConfig {
    fn default() -> Self {
        Self {
            capacity: FrameCount::holding(4 << 30),
            limit: None,
            memory_limit: None,
            backing: Backing::Anonymous,
            keep_blocks: 2,
            lists: None,
            movability: Movability::On,
            cma: None,
        }
    }
}

/// Zones with at least so much memory use huge pages. Units: bytes.
const HUGE_PAGES_FROM: u64 = 64 * PAGEBLOCK_SIZE as u64;

impl ZoneConfig {
    fn uses_small_pages(&self) -> bool {
        self.memory_limit.is_some_and(|limit| limit < HUGE_PAGES_FROM)
    }

    /// Frames the OS commits at once.
    pub(crate) fn granule(&self) -> u32 {
        if self.uses_small_pages() { 1 } else { PAGEBLOCK_FRAMES }
    }

    /// Where the bytes of the arena come from.
    pub(crate) fn arena_backing(&self) -> Backing {
        match self.backing {
            Backing::Anonymous if self.uses_small_pages() => Backing::AnonymousSmall,
            backing => backing,
        }
    }
}

/// Returns how many per-CPU lists a zone has that sets no number: one for each CPU.
pub(crate) fn default_lists() -> usize {
    sync::default_shards(sys::host::cpus())
}

/// The pageblocks of a region, which must be whole and inside.
pub(crate) fn region_of(cma: Option<CmaRegion>, blocks: u32) -> Result<Range<u32>, ZoneError> {
    let Some(region) = cma else { return Ok(0..0) };
    let (first, frames) = (u64::from(region.first.0), region.frames.0);
    let a_block = u64::from(PAGEBLOCK_FRAMES);
    let whole = first.is_multiple_of(a_block) && frames.is_multiple_of(a_block);
    let end = first.checked_add(frames).filter(|&end| whole && end <= u64::from(blocks) * a_block);
    // Pageblock numbers fit, since the end is inside the zone.
    end.map(|end| (first / a_block) as u32..(end / a_block) as u32)
        .ok_or(ZoneError::Region { region })
}

pub(crate) fn blocks_of(capacity: FrameCount) -> Result<u32, ZoneError> {
    // The last number means "none" in the tables, so the last pageblock cannot be used.
    let max = u64::from(u32::MAX / PAGEBLOCK_FRAMES);
    u32::try_from(capacity.0.div_ceil(u64::from(PAGEBLOCK_FRAMES)))
        .ok()
        .filter(|&blocks| blocks > 0 && u64::from(blocks) <= max)
        .ok_or(ZoneError::Capacity { capacity, max: FrameCount(max * u64::from(PAGEBLOCK_FRAMES)) })
}
