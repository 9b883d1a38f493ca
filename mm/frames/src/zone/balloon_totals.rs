//! Sums of ballooned memory.

// Not the modelled atomics: statistics order nothing.
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::units::FrameCount;

/// The sums over all [`BalloonAccount`](crate::BalloonAccount)s of a zone.
#[derive(Debug, Default)]
pub(crate) struct BalloonTotals {
    frames: AtomicU64,
    record_bytes: AtomicU64,
}

impl BalloonTotals {
    /// Returns the ballooned frames of all accounts.
    pub(crate) fn frames(&self) -> FrameCount {
        // Relaxed: a statistic; the others here as well.
        FrameCount(self.frames.load(Relaxed))
    }

    /// Returns the bytes of the owners' records of all accounts.
    pub(crate) fn record_bytes(&self) -> u64 {
        self.record_bytes.load(Relaxed)
    }

    /// Counts more ballooned frames.
    pub(crate) fn add_frames(&self, frames: FrameCount) {
        self.frames.fetch_add(frames.0, Relaxed);
    }

    /// Counts fewer ballooned frames.
    pub(crate) fn remove_frames(&self, frames: FrameCount) {
        self.frames.fetch_sub(frames.0, Relaxed);
    }

    /// Replaces one account's record bytes.
    pub(crate) fn replace_record_bytes(&self, before: u64, now: u64) {
        // Wrapping, so it can also decrease. The sum over all owners never goes below zero.
        self.record_bytes.fetch_add(now.wrapping_sub(before), Relaxed);
    }
}
