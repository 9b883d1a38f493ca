//! Proactive compaction: in the background, a slice at a time, so that large blocks are free before somebody asks for them.
//!
//! # States
//! ```text
//!            score above the high mark              score at or below the low mark
//!  watching ---------------------------> compacting -----------------------------> watching
//!     ^                                      |
//!     |  1, 2, 4, .. 64 looks passed over    |  nothing gained
//!     +---------- backing off <--------------+
//! ```
//! The *score* is the share of free memory that is scattered: in committed pageblocks which are also in use. The marks are the kernel's: low is 100 less
//! the proactiveness, high is a little above that. Work is done in *passes* ([`super`]), each in as many slices as it takes.

use super::{CompactGoal, CompactOutcome, CompactRequest, FrameCompaction};
use crate::budget::Budget;
use crate::events::add;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::migrate::MigrateMode;
use crate::zone::Zone;

/// Looks passed over, at most, after work in vain.
const MAX_BACKOFF: u32 = 64;

/// Scattered free memory is worth no compaction as long as it is less than one frame for so many in use.
const IN_USE_PER_FRAGMENTED: u64 = 64;

/// How eagerly memory is compacted before it is needed: 0 is never, 100 always. Units: percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proactiveness(u8);

impl Proactiveness {
    /// What the kernel has.
    pub const KERNEL: Self = Self(20);

    /// `None` above 100.
    #[must_use]
    pub const fn new(percent: u8) -> Option<Self> {
        if percent <= 100 { Some(Self(percent)) } else { None }
    }

    /// The score at which a compaction ends.
    fn low(self) -> u8 {
        100 - self.0
    }

    /// The score above which one begins.
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
    /// Free memory is in large blocks; nothing was to be done.
    Idle,
    /// The last work was in vain; this look was passed over.
    BackingOff,
    /// It compacted.
    Compacted(FrameCompaction),
}

impl ProactiveOutcome {
    /// Whether another slice right after this one would go on with the work.
    #[must_use]
    pub fn has_more_work(&self) -> bool {
        matches!(self, Self::Compacted(report) if report.outcome == CompactOutcome::OutOfTime)
    }
}

/// Compaction in the background, without a thread: a caller that has one calls [`ProactiveCompactor::step`] now and then, and decides how much of a CPU it gets.
#[derive(Debug, Default)]
pub struct ProactiveCompactor {
    proactiveness: Proactiveness,
    /// The pass that is not over yet.
    pass: Option<Pass>,
    /// Looks the last failure passed over; 0 after a success.
    back_off: u32,
    left: u32,
}

/// A pass over the zone, slice by slice.
#[derive(Clone, Copy, Debug)]
struct Pass {
    /// Free frames that were scattered when it began.
    fragmented: u64,
}

impl ProactiveCompactor {
    /// Nothing done yet.
    #[must_use]
    pub fn new(proactiveness: Proactiveness) -> Self {
        Self { proactiveness, ..Self::default() }
    }

    /// Looks at the zone and compacts it for at most `slice` if that is worth it.
    ///
    /// Locking: as [`Zone::compact`].
    pub fn step(&mut self, zone: &Zone, slice: Budget) -> ProactiveOutcome {
        if self.pass.is_none()
            && (zone.fragmentation() <= self.proactiveness.high() || self.proactiveness.0 == 0)
        {
            return ProactiveOutcome::Idle;
        }
        if self.left > 0 {
            self.left -= 1;
            return ProactiveOutcome::BackingOff;
        }
        let pass = self.pass.take().unwrap_or_else(|| {
            add(&zone.events.compact_daemon_wake, 1);
            if self.back_off > 0 {
                // The last whole pass was in vain; what was in its way may be gone by now.
                zone.reset_skip_hints();
            }
            Pass { fragmented: zone.fragmentation_info().fragmented }
        });
        let goal = CompactGoal::Fragmentation(self.proactiveness.low());
        let report = zone.compact(CompactRequest { goal, mode: MigrateMode::Async, budget: slice });
        match report.outcome {
            CompactOutcome::OutOfTime | CompactOutcome::AlreadyRunning => self.pass = Some(pass),
            CompactOutcome::Reached => self.back_off = 0,
            // Less than a pageblock more in one piece is no gain: what others freed meanwhile looks the same.
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

/// Free frames that have memory.
#[derive(Clone, Copy, Debug)]
struct FragmentationInfo {
    free: u64,
    /// Of these, outside of wholly free pageblocks.
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
    /// How scattered free memory is: the share of the free frames that have memory and are not in wholly free pageblocks. Pageblocks whose memory the
    /// OS has count as nothing, so the score does not depend on what was used once. Units: percent.
    ///
    /// It is 0 as long as less than a pageblock is scattered, or less than a 64th of what is in use (what a balloon has not counted): no pageblock could be
    /// made of the one, and the other is not worth the copies.
    ///
    /// Locking: the zone lock.
    #[must_use]
    pub fn fragmentation(&self) -> u8 {
        let now = self.fragmentation_info();
        let little = u64::from(PAGEBLOCK_FRAMES).max(now.in_use / IN_USE_PER_FRAGMENTED);
        if now.fragmented < little { 0 } else { now.percent() }
    }

    /// Whether a compaction for this score has reached it. Once begun it goes on below what is worth beginning for: it would begin again soon.
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
