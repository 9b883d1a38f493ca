//! The configuration of a zone, and its validation.

use std::ops::Range;

use sys::Backing;

use crate::error::{CmaRegion, ZoneError};
use crate::geometry::{PAGEBLOCK_FRAMES, PAGEBLOCK_SIZE};
use crate::units::FrameCount;

/// Whether frames of registered owners move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Movability {
    /// Frames of registered owners can be moved.
    #[default]
    On,
    /// Owners get unmovable frames and nothing moves. For comparison.
    Off,
}

/// The configuration of a zone.
#[derive(Clone, Copy, Debug)]
pub struct ZoneConfig {
    /// Frames of the arena, rounded up to whole pageblocks. They only take address space.
    pub capacity: FrameCount,
    /// Frames that may be in use; `None` for all.
    pub limit: Option<FrameCount>,
    /// The most memory the zone may hold: frames, its tables, and what owners
    /// [charge](crate::Zone::charge); `None` for no limit. Below 128 MiB the arena uses small
    /// pages, so that it holds no more than was requested. Units: bytes.
    pub memory_limit: Option<u64>,
    /// Where the memory comes from.
    pub backing: Backing,
    /// The fewest free pageblocks that stay committed for later requests.
    pub keep_blocks: u32,
    /// The number of per-CPU lists; `None` for one per CPU.
    pub lists: Option<usize>,
    /// Whether frames of registered owners can be moved.
    pub movability: Movability,
    /// The region for [`Zone::alloc_contig_range`](crate::Zone::alloc_contig_range). Until that
    /// takes them, only single movable frames may borrow frames of it.
    pub cma: Option<CmaRegion>,
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

/// The smallest memory limit for which a zone uses huge pages. Units: bytes.
const HUGE_PAGES_FROM: u64 = 64 * PAGEBLOCK_SIZE as u64;

impl ZoneConfig {
    fn uses_small_pages(&self) -> bool {
        self.memory_limit.is_some_and(|limit| limit < HUGE_PAGES_FROM)
    }

    /// Returns how many frames the OS commits at once.
    pub(crate) fn granule(&self) -> u32 {
        if self.uses_small_pages() { 1 } else { PAGEBLOCK_FRAMES }
    }

    /// Returns where the memory of the arena comes from.
    pub(crate) fn arena_backing(&self) -> Backing {
        match self.backing {
            Backing::Anonymous if self.uses_small_pages() => Backing::AnonymousSmall,
            backing => backing,
        }
    }

    /// Returns the number of per-CPU lists.
    pub(super) fn lists(&self) -> usize {
        self.lists.unwrap_or_else(|| sync::default_shards(sys::host::cpus())).max(1)
    }

    /// Returns the pageblocks of the CMA region.
    ///
    /// # Errors
    /// [`ZoneError::Region`] unless the region is whole pageblocks inside the zone.
    pub(super) fn region(&self, blocks: u32) -> Result<Range<u32>, ZoneError> {
        let Some(region) = self.cma else { return Ok(0..0) };
        let (first, frames) = (u64::from(region.first.0), region.frames.0);
        let a_block = u64::from(PAGEBLOCK_FRAMES);
        let whole = first.is_multiple_of(a_block) && frames.is_multiple_of(a_block);
        let inside = |&end: &u64| whole && end <= u64::from(blocks) * a_block;
        // The end is inside the zone, so pageblock numbers fit.
        let range = |end| (first / a_block) as u32..(end / a_block) as u32;
        first.checked_add(frames).filter(inside).map(range).ok_or(ZoneError::Region(region))
    }

    /// Returns how many pageblocks hold the capacity.
    ///
    /// # Errors
    /// [`ZoneError::Capacity`] when there are none, or too many to number their frames.
    pub(super) fn blocks(&self) -> Result<u32, ZoneError> {
        // The last number means "no frame" in links, so the last pageblock cannot be used.
        let max = u32::MAX / PAGEBLOCK_FRAMES;
        let blocks = u32::try_from(self.capacity.0.div_ceil(u64::from(PAGEBLOCK_FRAMES)));
        let max_frames = FrameCount(u64::from(max) * u64::from(PAGEBLOCK_FRAMES));
        let refused = ZoneError::Capacity { capacity: self.capacity, max: max_frames };
        blocks.ok().filter(|blocks| (1..=max).contains(blocks)).ok_or(refused)
    }
}
