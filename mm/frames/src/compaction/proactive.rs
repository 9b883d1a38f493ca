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
//! mark a little above that. A compaction is a *pass* ([`super`]) in as many slices as it takes.

use super::{CompactGoal, CompactOutcome, CompactRequest, FrameCompaction};
use crate::budget::Budget;
use crate::events::add;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::migrate::MigrateMode;
use crate::zone::Zone;

/// The most steps skipped after a pass without progress.
const MAX_BACKOFF: u32 = 64;

/// Fragmented free memory is worth a compaction only from one frame for this many in use.
const IN_USE_PER_FRAGMENTED: u64 = 64;

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
    /// The unfinished pass.
    pass: Option<Pass>,
    /// How many steps the last failure skips; 0 after a success.
    back_off: u32,
    /// How many of these are still to be skipped.
    left: u32,
}

/// A pass over the zone, in slices.
#[derive(Clone, Copy, Debug)]
struct Pass {
    /// The fragmented free frames when the pass began.
    fragmented: u64,
}

impl ProactiveCompactor {
    /// Creates a compactor.
    #[must_use]
    pub fn new(proactiveness: Proactiveness) -> Self {
        Self { proactiveness, ..Self::default() }
    }

    /// Compacts the zone for at most `slice` if its score is high enough.
    ///
    /// Locking: as [`Zone::compact`].
    pub fn step(&mut self, zone: &Zone, slice: Budget) -> ProactiveOutcome {
        // Return if there is nothing to do, or the last pass made no progress.
        if self.pass.is_none()
            && (zone.fragmentation() <= self.proactiveness.high() || self.proactiveness.0 == 0)
        {
            return ProactiveOutcome::Idle;
        }
        if self.left > 0 {
            self.left -= 1;
            return ProactiveOutcome::BackingOff;
        }
        // Continue the unfinished pass, or begin one.
        let pass = self.pass.take().unwrap_or_else(|| {
            add(&zone.events.compact_daemon_wake, 1);
            if self.back_off > 0 {
                // The last pass made no progress; its skip hints may be out of date.
                zone.reset_skip_hints();
            }
            Pass { fragmented: zone.fragmentation_info().fragmented }
        });
        // Compact, then keep the unfinished pass or judge the finished one.
        let goal = CompactGoal::Fragmentation(self.proactiveness.low());
        let report = zone.compact(CompactRequest { goal, mode: MigrateMode::Async, budget: slice });
        match report.outcome {
            CompactOutcome::OutOfTime | CompactOutcome::AlreadyRunning => self.pass = Some(pass),
            CompactOutcome::Reached => self.back_off = 0,
            // Defragmenting less than a pageblock is no progress: frames that others freed
            // meanwhile look the same.
            _ if zone.fragmentation_info().fragmented + u64::from(PAGEBLOCK_FRAMES)
                <= pass.fragmented =>
            {
                self.back_off = 0
            }
            _ => {
                self.back_off = (self.back_off * 2).clamp(1, MAX_BACKOFF);
                self.left = self.back_off;
            }
        }
        ProactiveOutcome::Compacted(report)
    }
}

/// The free frames that have memory.
#[derive(Clone, Copy, Debug)]
struct FragmentationInfo {
    free: u64,
    /// Those outside of wholly free pageblocks.
    fragmented: u64,
    in_use: u64,
}

impl FragmentationInfo {
    fn percent(self) -> u8 {
        // At most 100.
        (self.fragmented * 100).checked_div(self.free).unwrap_or(0) as u8
    }
}

impl Zone {
    /// Returns the fragmentation score: the share of committed free frames outside of wholly free
    /// pageblocks. Pageblocks without memory do not count, so the score does not depend on past
    /// use. Units: percent.
    ///
    /// The score is 0 while less than a pageblock is fragmented, since no pageblock could be
    /// freed. It is also 0 while less than a 64th of the memory in use (frames in the balloon
    /// excluded) is fragmented: that is not worth the copies.
    ///
    /// Locking: takes the zone lock.
    #[must_use]
    pub fn fragmentation(&self) -> u8 {
        let now = self.fragmentation_info();
        let little = u64::from(PAGEBLOCK_FRAMES).max(now.in_use / IN_USE_PER_FRAGMENTED);
        if now.fragmented < little { 0 } else { now.percent() }
    }

    /// Returns whether a compaction for this score has reached it. It continues below the score
    /// that begins a compaction; otherwise the next one would begin soon.
    pub(super) fn is_defragmented(&self, percent: u8) -> bool {
        let now = self.fragmentation_info();
        now.fragmented < u64::from(PAGEBLOCK_FRAMES) || now.percent() <= percent
    }

    fn fragmentation_info(&self) -> FragmentationInfo {
        let Some(buddy) = self.buddy.lock_unpoisoned() else {
            return FragmentationInfo { free: 0, fragmented: 0, in_use: 0 };
        };
        let a_block = u64::from(PAGEBLOCK_FRAMES);
        let free = u64::from(buddy.committed) * a_block - buddy.charged;
        let in_use = buddy.charged.saturating_sub(self.ballooned.frames().0);
        FragmentationInfo {
            free,
            fragmented: free.saturating_sub(u64::from(buddy.idle) * a_block),
            in_use,
        }
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
