//! What a compaction should do, and what it did.

use crate::budget::Budget;
use crate::units::Order;
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
