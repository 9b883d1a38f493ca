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

use super::{CompactRequest, FrameCompaction, Goal, Outcome};
use crate::budget::Budget;
use crate::events::add;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::migrate::Mode;
use crate::zone::Zone;

/// Looks passed over, at most, after work in vain.
const MOST: u32 = 64;

/// Scattered free memory is worth no compaction as long as it is less than one frame for so many in use.
const SCATTERED_ONE_IN: u64 = 64;

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
        matches!(self, Self::Worked(report) if report.outcome == Outcome::OutOfTime)
    }
}

/// Compaction in the background, without a thread: a caller that has one calls [`Proactive::step`] now and then, and decides how much of a CPU it gets.
#[derive(Debug, Default)]
pub struct Proactive {
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
    scattered: u64,
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
        if self.pass.is_none()
            && (zone.fragmentation() <= self.proactiveness.high() || self.proactiveness.0 == 0)
        {
            return ProactiveStep::Idle;
        }
        if self.left > 0 {
            self.left -= 1;
            return ProactiveStep::BackingOff;
        }
        let pass = self.pass.take().unwrap_or_else(|| {
            add(&zone.events.daemon_wake, 1);
            if self.back_off > 0 {
                // The last whole pass was in vain; what was in its way may be gone by now.
                zone.forget_hints();
            }
            Pass { scattered: zone.scattered().scattered }
        });
        let goal = Goal::Fragmentation(self.proactiveness.low());
        let report = zone.compact(CompactRequest { goal, mode: Mode::Async, budget: slice });
        match report.outcome {
            Outcome::OutOfTime | Outcome::AlreadyRunning => self.pass = Some(pass),
            Outcome::Reached => self.back_off = 0,
            // Less than a pageblock more in one piece is no gain: what others freed meanwhile looks the same.
            _ if zone.scattered().scattered + u64::from(PAGEBLOCK_FRAMES) <= pass.scattered => {
                self.back_off = 0
            }
            _ => {
                self.back_off = (self.back_off * 2).clamp(1, MOST);
                self.left = self.back_off;
            }
        }
        ProactiveStep::Worked(report)
    }
}

/// Free frames that have memory.
#[derive(Clone, Copy, Debug)]
struct Scattered {
    free: u64,
    /// Of these, outside of wholly free pageblocks.
    scattered: u64,
    in_use: u64,
}

impl Scattered {
    fn percent(self) -> u8 {
        // At most 100.
        (self.scattered * 100).checked_div(self.free).unwrap_or(0) as u8
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
        let now = self.scattered();
        let little = u64::from(PAGEBLOCK_FRAMES).max(now.in_use / SCATTERED_ONE_IN);
        if now.scattered < little { 0 } else { now.percent() }
    }

    /// Whether a compaction for this score has reached it. Once begun it goes on below what is worth beginning for: it would begin again soon.
    pub(super) fn is_packed(&self, percent: u8) -> bool {
        let now = self.scattered();
        now.scattered < u64::from(PAGEBLOCK_FRAMES) || now.percent() <= percent
    }

    fn scattered(&self) -> Scattered {
        let Some(buddy) = self.buddy.lock_sound() else {
            return Scattered { free: 0, scattered: 0, in_use: 0 };
        };
        let a_block = u64::from(PAGEBLOCK_FRAMES);
        let free = u64::from(buddy.committed) * a_block - buddy.charged;
        let in_use = buddy.charged.saturating_sub(self.lent.frames().0);
        Scattered { free, scattered: free.saturating_sub(u64::from(buddy.idle) * a_block), in_use }
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
