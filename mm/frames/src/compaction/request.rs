//! What a compaction or a contiguous allocation should do, and how it ended.

use thiserror::Error;

use crate::budget::{Budget, Deadline};
use crate::units::{FrameCount, Order, Pfn};
use crate::zone::MigrateMode;

/// When a compaction has done enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactGoal {
    /// Move every frame that can move down.
    WholeZone,
    /// Stop as soon as a block of this order is free for movable or unmovable frames.
    Block(Order),
    /// Stop when at most this share of the free memory is outside of free pageblocks. Units:
    /// percent.
    Fragmentation(u8),
}

/// What a compaction should do.
#[derive(Clone, Copy, Debug)]
pub struct CompactRequest {
    /// When it has done enough.
    pub goal: CompactGoal,
    /// How hard migration may try.
    pub mode: MigrateMode,
    /// How long it may take. It checks the deadline before each batch, at most 8 frames.
    pub budget: Budget,
}

impl Default for CompactRequest {
    /// The whole zone, without a time limit.
    fn default() -> Self {
        Self {
            goal: CompactGoal::WholeZone,
            mode: MigrateMode::SyncLight,
            budget: Budget::unlimited(),
        }
    }
}

/// How a compaction ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompactOutcome {
    /// The scanners met: nothing is left to move, apart from busy frames.
    #[default]
    Done,
    /// It reached the goal before the scanners met.
    Reached,
    /// The budget ran out before the scanners met.
    OutOfTime,
    /// Another thread is compacting; nothing was done.
    AlreadyRunning,
    /// Too few frames are free for the block, or the zone is poisoned; nothing was done.
    Skipped,
    /// The last attempts failed, so this one is deferred; nothing was done.
    Deferred,
    /// Every range that could hold the block has a frame that cannot be moved.
    NoSuitable,
}

/// The result of a frame compaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FrameCompaction {
    /// Frames whose content was moved.
    pub frames_moved: u64,
    /// Frames that their owner was using or refused to move.
    pub frames_busy: u64,
    /// Frames that the migrate scanner looked at.
    #[cfg_attr(feature = "serde", serde(rename = "frames_scanned"))]
    pub scanned: u64,
    /// How it ended. Serialized without it.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub outcome: CompactOutcome,
}

/// How hard a contiguous allocation may try.
#[derive(Clone, Copy, Debug)]
pub struct ContigRequest {
    /// How hard migration may try.
    pub mode: MigrateMode,
    /// How long it may take, checked several times for each pageblock that has to be cleared. A
    /// range of several pageblocks must be captured within a third of it: the rest is for freeing
    /// what was taken.
    pub budget: Budget,
}

impl Default for ContigRequest {
    fn default() -> Self {
        Self { mode: MigrateMode::Sync, budget: Budget::unlimited() }
    }
}

/// Why a range could not be allocated. The zone is unchanged, except that movable frames may have
/// moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ContigError {
    /// The range is empty, or part of it is outside of the zone.
    #[error("{frames} from {first} on are not a range of the zone")]
    Range {
        /// The first frame.
        first: Pfn,
        /// The number of frames.
        frames: FrameCount,
    },
    /// Fewer frames than requested are left below the zone's limit.
    #[error("the zone's limit is reached")]
    Limit,
    /// A frame in the range cannot move now: its owner or another thread uses it, or another
    /// request has isolated its pageblock.
    #[error("{pfn} is busy")]
    Busy {
        /// The frame.
        pfn: Pfn,
    },
    /// A frame in the range has no owner that could move it.
    #[error("{pfn} cannot be moved")]
    Unmovable {
        /// The frame.
        pfn: Pfn,
    },
    /// No free frame is left to move the content of the range to.
    #[error("no free frame is left to move the content of the range to")]
    NoTargets,
    /// A panic interrupted a change of the zone's free lists.
    #[error("the zone is poisoned: a panic interrupted a change of its free lists")]
    Poisoned,
    /// The budget ran out.
    #[error("the budget ran out before the range was cleared")]
    OutOfTime,
    /// Every range of this size has a frame that cannot be moved.
    #[error("every range of this size has a frame that cannot be moved")]
    NoRange,
}

/// Checks that the deadline has not passed.
pub(super) fn check_time(deadline: Deadline) -> Result<(), ContigError> {
    if deadline.has_passed() { Err(ContigError::OutOfTime) } else { Ok(()) }
}
