//! Statistics of a zone.

use std::sync::atomic::Ordering::Relaxed;

use super::Zone;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::units::FrameCount;

/// A snapshot of a zone, taken with all its locks held: exactly `committed = in_use + cached +
/// retired + free_committed` and `online = committed + released`, which includes pageblocks that
/// are being decommitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZoneStats {
    /// Frames of the arena.
    pub capacity: FrameCount,
    /// Frames that may be in use, by the frame limit and by what the memory limit leaves.
    pub limit: Option<FrameCount>,
    /// The most memory the zone may hold. Units: bytes.
    pub memory_limit: Option<u64>,
    /// Memory that the zone holds: touched frames, tables, and what owners charged. Ballooned
    /// memory is still counted. Units: bytes.
    pub memory_bytes: u64,
    /// What owners charged. Units: bytes.
    pub charged_bytes: u64,
    /// Records of balloons: 8 bytes for each run of frames, not in `memory_bytes`. Units: bytes.
    pub balloon_record_bytes: u64,
    /// Frames allocated since their pageblock was committed: the OS may hold memory for them.
    pub reached: FrameCount,
    /// Frames below the high-water mark.
    pub online: FrameCount,
    /// Frames of committed pageblocks. A pageblock counts as a whole from its first use on.
    pub committed: FrameCount,
    /// Frames that have an owner.
    pub in_use: FrameCount,
    /// Frames whose memory has failed. They are never used again and count against the limit.
    pub retired: FrameCount,
    /// Frames in use whose memory a balloon gave to the host: the zone holds
    /// `committed - ballooned`.
    pub ballooned: FrameCount,
    /// Frames freed after the zone was poisoned. They count as in use for good.
    pub lost: FrameCount,
    /// Frames that count against the limit and are not allocated yet: see [`Zone::reserve`].
    pub reserved: FrameCount,
    /// Free frames on per-CPU lists.
    pub cached: FrameCount,
    /// Free frames on buddy lists.
    pub free_committed: FrameCount,
    /// Online frames without memory.
    pub released: FrameCount,
    /// Pageblocks decommitted since the zone was created.
    pub blocks_released_total: u64,
    /// Committed memory of the zone's tables and lists and the records of balloons. Units: bytes.
    pub descriptor_bytes: u64,
}

impl Zone {
    /// Returns a snapshot of what the zone holds.
    ///
    /// Locking: all locks of the zone, for a moment.
    #[must_use]
    pub fn stats(&self) -> ZoneStats {
        let all = self.allocator.lock_all();
        let (buddy, ledger) = (&all.buddy, &all.buddy.ledger);
        let record_bytes = self.allocator.balloon_record_bytes.load(Relaxed);
        let frames = |blocks: u32| FrameCount(u64::from(blocks) * u64::from(PAGEBLOCK_FRAMES));
        let (committed, cached) = (frames(buddy.committed), all.cached());
        ZoneStats {
            capacity: self.capacity(),
            limit: ledger.frame_limit().map(FrameCount),
            memory_limit: ledger.memory_limit,
            memory_bytes: ledger.memory_bytes(),
            charged_bytes: ledger.owner_bytes,
            balloon_record_bytes: record_bytes,
            reached: FrameCount(ledger.touched),
            online: frames(buddy.online),
            committed,
            // Saturating, here and below: the counts of a poisoned zone may contradict each other.
            in_use: FrameCount(ledger.charged.saturating_sub(cached + buddy.retired)),
            retired: FrameCount(buddy.retired),
            ballooned: FrameCount(self.allocator.ballooned.load(Relaxed)),
            lost: FrameCount(buddy.lost),
            reserved: FrameCount(ledger.reservations),
            cached: FrameCount(cached),
            free_committed: FrameCount(committed.0.saturating_sub(ledger.charged)),
            released: frames(buddy.online.saturating_sub(buddy.committed)),
            blocks_released_total: buddy.released_total,
            descriptor_bytes: ledger.table_bytes + ledger.fixed_bytes + record_bytes,
        }
    }
}
