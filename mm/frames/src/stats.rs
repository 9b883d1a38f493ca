//! What a zone holds, in numbers.

use crate::geometry::PAGEBLOCK_FRAMES;
use crate::tables::Tables;
use crate::units::FrameCount;
use crate::zone::Zone;

/// A snapshot of a zone, taken with everything stopped: the equations hold exactly.
///
/// `committed = in_use + cached + retired + free_committed`, and `online = committed + released` (a pageblock on its way back counts as released).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZoneStats {
    /// Frames there can be.
    pub capacity: FrameCount,
    /// Frames that may be in use, by the limit on frames or what the memory limit leaves for them.
    pub limit: Option<FrameCount>,
    /// What the zone may hold in all. Units: bytes.
    pub memory_limit: Option<u64>,
    /// What it holds: frames reached, tables, and what owners charged. Lent memory is still counted. Units: bytes.
    pub memory_bytes: u64,
    /// What owners charged. Units: bytes.
    pub charged_bytes: u64,
    /// Records of those who lend memory: 8 bytes for each run of frames, not in `memory_bytes`. Units: bytes.
    pub balloon_record_bytes: u64,
    /// Frames that were handed out since their pageblock was committed: the OS may hold memory for them, in use or free.
    pub reached: FrameCount,
    /// Frames below the high-water mark.
    pub online: FrameCount,
    /// Frames of pageblocks whose memory we hold, or may hold: it is counted as a whole from the first use on.
    pub committed: FrameCount,
    /// Frames that have an owner.
    pub in_use: FrameCount,
    /// Frames out of use for good, since their memory has failed. They count against the limit.
    pub retired: FrameCount,
    /// Of those in use, frames whose memory was lent to the host: what is held is `committed - ballooned`.
    pub ballooned: FrameCount,
    /// Frames freed after the zone was poisoned: they stay counted as in use, and nothing gets them.
    pub lost: FrameCount,
    /// Frames that count against the limit and are not taken yet: see [`Zone::reserve`].
    pub reserved: FrameCount,
    /// Free frames on per-CPU lists.
    pub cached: FrameCount,
    /// Free frames on buddy lists.
    pub free_committed: FrameCount,
    /// Online frames whose memory the OS has.
    pub released: FrameCount,
    /// Pageblocks given back since the zone was made.
    pub blocks_released_total: u64,
    /// Committed memory of all tables and lists of the zone, and of the records of those who lend its memory. Units: bytes.
    pub descriptor_bytes: u64,
}

impl Zone {
    /// What the zone holds just now.
    ///
    /// Locking: takes all locks of the zone for a moment.
    #[must_use]
    pub fn stats(&self) -> ZoneStats {
        let all = self.lock_all();
        let buddy = &all.buddy;
        let frames = |blocks: u32| FrameCount(u64::from(blocks) * u64::from(PAGEBLOCK_FRAMES));
        let (committed, cached) = (frames(buddy.committed), all.cached());
        ZoneStats {
            capacity: self.capacity(),
            limit: buddy.frame_limit().map(FrameCount),
            memory_limit: buddy.memory.limit,
            memory_bytes: buddy.memory_bytes(),
            charged_bytes: buddy.memory.charged,
            balloon_record_bytes: self.ballooned.record_bytes(),
            reached: FrameCount(buddy.memory.touched),
            online: frames(buddy.online),
            committed,
            // Saturating, here and below: the counts of a poisoned zone may contradict each other.
            in_use: FrameCount(buddy.charged.saturating_sub(cached + buddy.retired)),
            retired: FrameCount(buddy.retired),
            ballooned: self.ballooned.frames(),
            lost: FrameCount(buddy.lost),
            reserved: FrameCount(buddy.reservations),
            cached: FrameCount(cached),
            free_committed: FrameCount(committed.0.saturating_sub(buddy.charged)),
            released: frames(buddy.online.saturating_sub(buddy.committed)),
            blocks_released_total: buddy.released_total,
            descriptor_bytes: Tables::committed_bytes(
                buddy.online,
                buddy.committed + buddy.releasing,
            ) + buddy.memory.fixed
                + self.ballooned.record_bytes(),
        }
    }
}

/// Rounds up to what the OS commits at once. Units: bytes.
pub(crate) fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(sys::page_size() as u64)
}
