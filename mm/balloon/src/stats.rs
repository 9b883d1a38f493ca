//! The statistics of a balloon.

use frames::FrameCount;

/// Counts since the balloon was created. Guarded by the pages lock, so they are consistent.
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
