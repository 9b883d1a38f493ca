//! What a balloon holds and has done, in numbers.

use frames::FrameCount;

/// Counts since the balloon was made. Guarded by the pages lock, so they fit each other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Events {
    pub(crate) inflated: u64,
    pub(crate) deflated: u64,
    pub(crate) migrated: u64,
    pub(crate) inflate_messages: u64,
    pub(crate) deflate_messages: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    pub(crate) oom_deflated: u64,
}

/// A snapshot of a balloon, taken under one lock.
///
/// `actual = blocks * 512 + frames`, `frames` with those isolated just now; `actual = inflated_total - deflated_total`. The zone counts
/// `actual` as [ballooned](frames::ZoneStats::ballooned): what the arena holds of the machine's memory is its committed frames less that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BalloonStats {
    /// What it is meant to have.
    pub target: FrameCount,
    /// What the host has.
    pub actual: FrameCount,
    /// Of that, whole pageblocks of 2 MiB.
    pub blocks: u64,
    /// Of that, single frames.
    pub frames: FrameCount,
    /// Of the single frames, those that migration has taken aside.
    pub isolated: FrameCount,
    /// Frames given to the host, migration not counted (the kernel's `balloon_inflate`).
    pub inflated_total: u64,
    /// Frames that came back, migration not counted (`balloon_deflate`).
    pub deflated_total: u64,
    /// Frames that moved while the host had them (`balloon_migrate`).
    pub migrated_total: u64,
    /// Messages to the host that gave memory, migration not counted.
    pub inflate_messages: u64,
    /// Messages to the host that took memory back, migration not counted.
    pub deflate_messages: u64,
    /// Times the host did not take what was offered.
    pub host_refusals: u64,
    /// Times the zone had nothing left for the balloon.
    pub allocation_failures: u64,
    /// Frames given back because the zone was out of memory; part of `deflated_total`.
    pub oom_deflated_total: u64,
    /// What the balloon's own records take. Units: bytes. The zone counts them in [`descriptor_bytes`](frames::ZoneStats::descriptor_bytes).
    pub record_bytes: u64,
}
