//! How a balloon is set up.

use frames::{FrameCount, OwnersExhausted};
use thiserror::Error;

/// What a balloon is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalloonUnit {
    /// Whole pageblocks of 2 MiB as long as there are any; single frames for what is left. Huge pages stay whole.
    BlocksFirst,
    /// Single frames only: for machines where huge pages are off anyway.
    Frames,
}

/// What a balloon may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalloonSource {
    /// Room: what of the zone nobody uses, memory first, and then frames that have none. For zones whose limit says what their users may have: that is then
    /// less by the balloon's size.
    FreeFrames,
    /// Memory only: what the zone holds and nobody uses. For zones that may grow as they like, where room that holds nothing is worth nothing to anybody.
    CommittedFrames,
}

/// Settings of a balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalloonConfig {
    /// What it takes.
    pub unit: BalloonUnit,
    /// Of what.
    pub source: BalloonSource,
    /// How much it gives back at once, at least, when the zone is out of memory (the kernel's `oom_pages`); zero for never.
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

/// Why there is no balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BalloonError {
    /// The zone has as many owners of movable frames as it can have.
    #[error("no balloon: {0}")]
    Owners(#[from] OwnersExhausted),
}
