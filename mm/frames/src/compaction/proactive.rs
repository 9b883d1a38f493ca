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
//! The *score* is the share of free memory that is not in blocks of a pageblock or more. The marks are the kernel's: low is 100 less the proactiveness,
//! high is a little above that.

use super::{CompactRequest, FrameCompaction, Goal, Outcome};
use crate::budget::Budget;
use crate::events::add;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::migrate::Mode;
use crate::zone::Zone;

/// Looks passed over, at most, after work in vain.
const MOST: u32 = 64;

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

/// What one step of [`Proactive`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProactiveStep {
    /// Free memory is in large blocks; nothing was to be done.
    Idle,
    /// The last work was in vain; this look was passed over.
    BackingOff,
    /// It compacted.
    Worked(FrameCompaction),
}

impl ProactiveStep {
    /// Whether another slice right after this one would go on with the work.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        matches!(self, Self::Worked(report) if report.outcome == Outcome::OutOfTime && report.frames_moved > 0)
    }
}

/// Compaction in the background, without a thread: whoever has one calls [`Proactive::step`] now and then, and decides how much of a CPU it gets.
#[derive(Debug, Default)]
pub struct Proactive {
    proactiveness: Proactiveness,
    compacting: bool,
    /// Looks the last failure passed over; 0 after a success.
    back_off: u32,
    left: u32,
}

impl Proactive {
    /// Nothing done yet.
    #[must_use]
    pub fn new(proactiveness: Proactiveness) -> Self {
        Self { proactiveness, ..Self::default() }
    }

    /// Looks at the zone and compacts it for at most `slice` if that is worth it.
    ///
    /// Locking: as [`Zone::compact`].
    pub fn step(&mut self, zone: &Zone, slice: Budget) -> ProactiveStep {
        let before = zone.fragmentation();
        if !self.compacting && (before <= self.proactiveness.high() || self.proactiveness.0 == 0) {
            return ProactiveStep::Idle;
        }
        if self.left > 0 {
            self.left -= 1;
            return ProactiveStep::BackingOff;
        }
        if self.back_off > 0 {
            // What was in the way then may be gone by now.
            zone.forget_hints();
        }
        if !self.compacting {
            add(&zone.events.daemon_wake, 1);
        }
        let goal = Goal::Fragmentation(self.proactiveness.low());
        let report = zone.compact(CompactRequest { goal, mode: Mode::Async, budget: slice });
        let gained = zone.fragmentation() < before;
        self.compacting = report.outcome == Outcome::OutOfTime && report.frames_moved > 0;
        match report.outcome {
            Outcome::AlreadyRunning => {}
            // A slice of time may be too short to show in the score.
            Outcome::OutOfTime if report.frames_moved > 0 => {}
            _ if gained => self.back_off = 0,
            Outcome::Reached => self.back_off = 0,
            _ => {
                self.back_off = (self.back_off * 2).clamp(1, MOST);
                self.left = self.back_off;
            }
        }
        ProactiveStep::Worked(report)
    }
}

impl Zone {
    /// How scattered free memory is: the share that is not in blocks of a pageblock or more. Less than a pageblock of it counts as nothing, since
    /// no block could be made of that. Units: percent.
    ///
    /// Locking: the zone lock.
    #[must_use]
    pub fn fragmentation(&self) -> u8 {
        let buddy = self.buddy.lock();
        let a_block = u64::from(PAGEBLOCK_FRAMES);
        let without_memory = u64::from(buddy.online - buddy.committed);
        let large = (u64::from(buddy.idle) + without_memory) * a_block;
        let free = u64::from(buddy.online) * a_block - buddy.charged;
        let small = free.saturating_sub(large);
        // At most 100.
        if small < a_block { 0 } else { (small * 100 / free) as u8 }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn the_marks_are_the_kernels() {
        let marks = |percent| Proactiveness::new(percent).map(|p| (p.low(), p.high()));
        assert_eq!([0, 20, 90, 100].map(marks), [Some((100, 110)), Some((80, 90)), Some((10, 15)), Some((0, 0))]);
        assert_eq!(marks(101), None);
    }
}
