//! The settings of a balloon.

use frames::{FrameCount, OwnersExhausted};
use thiserror::Error;

/// The allocation unit of a balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalloonUnit {
    /// Whole pageblocks of 2 MiB while there are any, then single frames. Huge pages stay whole.
    BlocksFirst,
    /// Single frames only, for machines where huge pages are off.
    Frames,
}

/// The frames a balloon may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalloonSource {
    /// All free frames: committed ones first, then those without memory. For zones with a limit on
    /// what their users may have, which the balloon then reduces by its size.
    FreeFrames,
    /// Free committed frames only. For zones without a limit, where ballooning untouched frames
    /// frees no memory.
    CommittedFrames,
}

/// Settings of a balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalloonConfig {
    /// The allocation unit: pageblocks or frames.
    pub unit: BalloonUnit,
    /// Which memory may be taken.
    pub source: BalloonSource,
    /// The least number of frames it gives back at once when the zone is out of memory (the
    /// kernel's `oom_pages`); zero for never.
    pub oom_frames: FrameCount,
}

impl Default for BalloonConfig {
    fn default() -> Self {
        Self {
            unit: BalloonUnit::BlocksFirst,
            source: BalloonSource::FreeFrames,
            oom_frames: FrameCount(256),
        }
    }
}

/// The error of creating a balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BalloonError {
    /// The zone has no owner ID left.
    #[error("cannot create a balloon: {0}")]
    Owners(#[from] OwnersExhausted),
}
