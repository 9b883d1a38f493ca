//! How fragmented the free memory of a zone is.

use sync::atomic::Ordering::Relaxed;

use crate::geometry::PAGEBLOCK_FRAMES;
use crate::zone::Zone;

/// Frames in use for each fragmented frame that makes a compaction worth its copies.
const IN_USE_PER_FRAGMENTED: u64 = 64;

/// The free frames that have memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FragmentationInfo {
    free: u64,
    /// Those outside of wholly free pageblocks.
    pub(super) fragmented: u64,
    in_use: u64,
}

impl FragmentationInfo {
    fn percent(self) -> u8 {
        // At most 100.
        (self.fragmented * 100).checked_div(self.free).unwrap_or(0) as u8
    }
}

/// Returns the fragmentation score: see [`Zone::fragmentation`].
pub(super) fn score(zone: &Zone) -> u8 {
    let now = info(zone);
    let little = u64::from(PAGEBLOCK_FRAMES).max(now.in_use / IN_USE_PER_FRAGMENTED);
    if now.fragmented < little { 0 } else { now.percent() }
}

/// Returns whether a compaction for this score has reached it.
pub(super) fn is_reached(zone: &Zone, percent: u8) -> bool {
    let now = info(zone);
    now.fragmented < u64::from(PAGEBLOCK_FRAMES) || now.percent() <= percent
}

/// Counts free frames; none in a poisoned zone.
pub(super) fn info(zone: &Zone) -> FragmentationInfo {
    let info = zone.allocator().with_buddy(|buddy, tables| {
        let a_block = u64::from(PAGEBLOCK_FRAMES);
        let charged = buddy.ledger.charged;
        let free = u64::from(buddy.committed) * a_block - charged;
        FragmentationInfo {
            free,
            fragmented: free.saturating_sub(tables.idle.members() * a_block),
            in_use: charged.saturating_sub(zone.allocator().ballooned.load(Relaxed)),
        }
    });
    info.unwrap_or_default()
}
