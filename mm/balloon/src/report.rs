//! What a balloon reports: the outcome of a resize, and its statistics.

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

/// The reason why a resize ended. In every case the host has exactly the balloon's frames.
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
    /// Only the reserve below the lowest watermark is left, which balloons may not use.
    Reserve,
    /// The zone's allocator failed.
    Zone(AllocError),
}

/// A snapshot of a balloon, taken under one lock.
///
/// `actual = blocks * 512 + frames`, where `frames` includes the isolated ones; `actual =
/// inflated_total - deflated_total`. The zone counts `actual` as
/// [ballooned](frames::ZoneStats::ballooned): the arena's share of the machine's memory is its
/// committed frames less the ballooned ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BalloonStats {
    /// The target.
    pub target: FrameCount,
    /// The frames the host has.
    pub actual: FrameCount,
    /// The whole pageblocks of 2 MiB among them.
    pub blocks: u64,
    /// The single frames among them.
    pub frames: FrameCount,
    /// The single frames that migration has isolated.
    pub isolated: FrameCount,
    /// Frames given to the host, migrations excluded (the kernel's `balloon_inflate`).
    pub inflated_total: u64,
    /// Frames that the host gave back, migrations excluded (`balloon_deflate`).
    pub deflated_total: u64,
    /// Frames that moved while the host had them (`balloon_migrate`).
    pub migrated_total: u64,
    /// Inflate messages to the host, migrations excluded.
    pub inflate_messages: u64,
    /// Deflate messages to the host, migrations excluded.
    pub deflate_messages: u64,
    /// The number of batches and migrations that the host refused.
    pub host_refusals: u64,
    /// The number of times the zone had no frames for the balloon.
    pub allocation_failures: u64,
    /// Frames given back because the zone was out of memory; part of `deflated_total`.
    pub oom_deflated_total: u64,
    /// The memory of the balloon's own records. Units: bytes. Part of the zone's
    /// [`descriptor_bytes`](frames::ZoneStats::descriptor_bytes).
    pub record_bytes: u64,
}
