//! The report of a resize.

use frames::{AllocError, FrameCount};

use crate::host::InflateError;

/// The report of a resize.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the report says whether the target was reached"]
pub struct ResizeReport {
    /// The requested size.
    pub asked: FrameCount,
    /// The target that was set: the requested size, or the largest one possible.
    pub target: FrameCount,
    /// The size at the end: the frames the host has.
    pub actual: FrameCount,
    /// The reason why the resize ended.
    pub stop: StopReason,
}

impl ResizeReport {
    /// Returns whether the requested size was reduced to the largest one possible.
    #[must_use]
    pub fn is_capped(&self) -> bool {
        self.target < self.asked
    }
}

/// The reason why a resize ended. The balloon is consistent in every case, and the host has exactly
/// the balloon's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The target is reached.
    Reached,
    /// The zone has no more frames for the balloon.
    NoMemory(Shortage),
    /// The host refused a batch. The batch was freed and not offered again.
    Refused(InflateError),
    /// Another thread set a target, or the zone was out of memory and lowered it.
    Superseded,
    /// The remaining frames are isolated; migration returns them soon.
    Isolated {
        /// The frames above the target.
        left: FrameCount,
    },
    /// The host called back into the balloon during a message. Nothing was changed.
    Reentered,
}

/// The reason why the zone has no frames for the balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// All committed frames are in use, and the balloon takes no others
    /// ([`BalloonSource::CommittedFrames`](crate::BalloonSource::CommittedFrames)).
    Memory,
    /// Only the reserve below the zone's lowest watermark is left, which balloons may not use
    ///
    Reserve,
    /// The zone's allocator failed.
    Zone(AllocError),
}
