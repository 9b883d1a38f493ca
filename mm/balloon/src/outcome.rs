//! What came of setting a target.

use frames::{AllocError, FrameCount};

use crate::host::InflateError;

/// What a change of the target came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it says whether the target was reached"]
pub struct ResizeReport {
    /// What was asked for.
    pub asked: FrameCount,
    /// The target that was set: what was asked for, or the most there can be.
    pub target: FrameCount,
    /// What the host has now.
    pub actual: FrameCount,
    /// Why it ended here.
    pub stop: StopReason,
}

impl ResizeReport {
    /// Whether more was asked for than the zone can ever give.
    #[must_use]
    pub fn is_capped(&self) -> bool {
        self.target < self.asked
    }
}

/// Why a change ended. In every case the balloon is consistent, and what it holds is what the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The target is reached.
    Reached,
    /// The zone has nothing more to give.
    NoMemory(Shortage),
    /// The host did not take more. What was offered is free again; nothing was tried a second time.
    Refused(InflateError),
    /// Somebody set another target meanwhile, or the zone needed memory; they went on from there.
    Superseded,
    /// The rest is isolated: migration gives it back in a moment.
    Isolated {
        /// Frames too many.
        left: FrameCount,
    },
    /// The host called back into the balloon that was calling it. Nothing was changed.
    Reentered,
}

/// What the zone was short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// All memory that is left is in use, and this balloon takes nothing else ([`BalloonSource::CommittedFrames`](crate::BalloonSource::CommittedFrames)).
    Memory,
    /// Only the reserve below the zone's lowest watermark is left, and that is not for balloons.
    Reserve,
    /// The zone refused.
    Zone(AllocError),
}
