//! Proactive compaction: compacts in the background, a slice at a time, so that large blocks are
//! free before they are requested.
//!
//! # States
//! ```text
//!            score above the high mark              score at or below the low mark
//!  watching ---------------------------> compacting -----------------------------> watching
//!     ^                                      |
//!     |  1, 2, 4, .. 64 steps skipped        |  no progress
//!     +---------- backing off <--------------+
//! ```
//! The *score* is the share of free memory that is fragmented: in committed pageblocks which are
//! also in use. The marks are the kernel's: the low mark is 100 less the proactiveness, the high
//! mark a little above that. A compaction is a *pass* in as many slices as it takes.

use super::request::{CompactGoal, CompactOutcome, CompactRequest, FrameCompaction};
use super::{fragmentation, skip};
use crate::budget::Budget;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::zone::{MigrateMode, Zone, add};

/// The most steps skipped after a pass without progress.
const MAX_BACKOFF: u32 = 64;

/// How eagerly memory is compacted before it is needed, from 0 (never) to 100 (always). Units:
/// percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proactiveness(u8);

impl Proactiveness {
    /// The kernel's default.
    pub const KERNEL: Self = Self(20);

    /// Creates a value; `None` above 100.
    #[must_use]
    pub const fn new(percent: u8) -> Option<Self> {
        if percent <= 100 { Some(Self(percent)) } else { None }
    }

    /// Returns the score at which a compaction ends.
    fn low(self) -> u8 {
        100 - self.0
    }

    /// Returns the score above which a compaction begins.
    fn high(self) -> u8 {
        self.low() + (self.low() / 2).min(10)
    }
}

impl Default for Proactiveness {
    fn default() -> Self {
        Self::KERNEL
    }
}

/// What one step of [`ProactiveCompactor`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProactiveOutcome {
    /// Nothing: free memory is in large blocks.
    Idle,
    /// Nothing: the last pass made no progress, so this step is skipped.
    BackingOff,
    /// It compacted.
    Compacted(FrameCompaction),
}

impl ProactiveOutcome {
    /// Returns whether another slice right after this one would continue the pass.
    #[must_use]
    pub fn has_more_work(&self) -> bool {
        matches!(self, Self::Compacted(report) if report.outcome == CompactOutcome::OutOfTime)
    }
}

/// Background compaction without a thread of its own. The caller calls
/// [`ProactiveCompactor::step`] regularly and so decides how much CPU time it gets.
#[derive(Debug, Default)]
pub struct ProactiveCompactor {
    proactiveness: Proactiveness,
    /// The unfinished pass: the fragmented free frames when it began.
    pass: Option<u64>,
    /// How many steps the last failure skips; 0 after a success.
    back_off: u32,
    /// How many of these are still to be skipped.
    left: u32,
}

impl ProactiveCompactor {
    /// Creates a compactor without an unfinished pass.
    #[must_use]
    pub fn new(proactiveness: Proactiveness) -> Self {
        Self { proactiveness, ..Self::default() }
    }

    /// Compacts the zone for at most `slice` if its score is high enough.
    ///
    /// Locking: as [`Zone::compact`].
    pub fn step(&mut self, zone: &Zone, slice: Budget) -> ProactiveOutcome {
        let is_low = || zone.fragmentation() <= self.proactiveness.high();
        if self.pass.is_none() && (is_low() || self.proactiveness.0 == 0) {
            return ProactiveOutcome::Idle;
        }
        if self.left > 0 {
            self.left -= 1;
            return ProactiveOutcome::BackingOff;
        }
        let before = self.pass.take().unwrap_or_else(|| {
            add(&zone.events().compact_daemon_wake, 1);
            if self.back_off > 0 {
                // The last pass made no progress; its skip hints may be out of date.
                skip::reset(zone);
            }
            fragmentation::info(zone).fragmented
        });
        let goal = CompactGoal::Fragmentation(self.proactiveness.low());
        let request = CompactRequest { goal, mode: MigrateMode::Async, budget: slice };
        let report = zone.compact(request);
        // Defragmenting less than a pageblock is no progress: frames that others freed meanwhile
        // look the same.
        let progress =
            || fragmentation::info(zone).fragmented + u64::from(PAGEBLOCK_FRAMES) <= before;
        match report.outcome {
            CompactOutcome::OutOfTime | CompactOutcome::AlreadyRunning => self.pass = Some(before),
            CompactOutcome::Reached => self.back_off = 0,
            _ if progress() => self.back_off = 0,
            _ => {
                self.back_off = (self.back_off * 2).clamp(1, MAX_BACKOFF);
                self.left = self.back_off;
            }
        }
        ProactiveOutcome::Compacted(report)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn the_marks_are_the_kernels() {
        let marks = |percent| Proactiveness::new(percent).map(|p| (p.low(), p.high()));
        assert_eq!(
            [0, 20, 90, 100].map(marks),
            [Some((100, 110)), Some((80, 90)), Some((10, 15)), Some((0, 0))]
        );
        assert_eq!(marks(101), None);
    }
}
