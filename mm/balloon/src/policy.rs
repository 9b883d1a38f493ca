//! How large a balloon should be: a pure function of memory pressure, the zone and the present target.
//!
//! Pressure means that the *host* is short of memory, so the balloon grows: caches and compaction of the zone pay first, then the store has less room. When
//! the pressure is gone, the balloon shrinks again.
//!
//! ```text
//!  some avg10      0 %    lower_below            raise_above           100 %
//!                  |----------|----------------------|--------------------|
//!                    smaller           as it is               larger
//! ```
//! Three things keep it from swinging: the band between the two marks; both averages must be low before it shrinks, so it grows fast and shrinks late;
//! and a change needs time to show, so the next one waits.

use std::time::Duration;

use frames::{FrameCount, PAGEBLOCK_FRAMES, Watermarks, ZoneStats};
use sys::host::{Psi, Share};

use crate::config::BalloonSource;

/// Settings of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The balloon grows when tasks stood still for more than this share of the last 10 seconds.
    pub raise_above: Share,
    /// It shrinks when they stood still for less than this share of the last 10 and of the last 60 seconds.
    pub lower_below: Share,
    /// By how much it grows or shrinks at once; at least a pageblock.
    pub step: FrameCount,
    /// The least time between a change and the next growth.
    pub raise_every: Duration,
    /// The least time between a change and the next shrinking.
    pub lower_every: Duration,
    /// Room that is left to others in the zone, at least; the zone's high watermark if that is more.
    pub reserve: FrameCount,
    /// The largest target the policy sets; `None` for whatever the zone has.
    pub max_target: Option<FrameCount>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            raise_above: Share::percent(10),
            lower_below: Share::percent(1),
            step: FrameCount::holding(64 << 20),
            raise_every: Duration::from_secs(2),
            lower_every: Duration::from_secs(10),
            reserve: FrameCount(0),
            max_target: None,
        }
    }
}

/// What the policy needs to know of a zone with a balloon on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneView {
    /// What all users of the zone together may have.
    pub usable: FrameCount,
    /// What others than the balloon have.
    pub others: FrameCount,
    /// What others could give up: caches, compaction.
    pub reclaimable: FrameCount,
    /// Free frames below which the zone counts as short.
    pub short_below: FrameCount,
}

impl ZoneView {
    /// Of a zone whose balloon has `actual` frames.
    ///
    /// A zone that may grow as it likes gives free memory back by itself, and frames it never used hold none; so only what it holds counts as usable there.
    #[must_use]
    pub fn of(
        stats: &ZoneStats,
        marks: &Watermarks,
        actual: FrameCount,
        reclaimable: FrameCount,
        source: BalloonSource,
    ) -> Self {
        let others = FrameCount(stats.in_use.0.saturating_sub(actual.0));
        let (usable, short_below) = match source {
            BalloonSource::FreeFrames => {
                (stats.limit.map_or(stats.capacity, |limit| limit.min(stats.capacity)), marks.high)
            }
            BalloonSource::CommittedFrames => (stats.committed, FrameCount(0)),
        };
        Self { usable, others, reclaimable, short_below }
    }
}

/// How long ago things happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentChanges {
    /// Since the balloon's target was last changed; `Duration::MAX` for never.
    pub since_change: Duration,
    /// Growths in a row that brought nothing. Each doubles the wait for the next one, up to 32 times.
    pub failed_raises: u32,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Set this larger target.
    Raise(FrameCount),
    /// Set this smaller target.
    Lower(FrameCount),
    /// Leave it, and why.
    Hold(HoldReason),
}

/// Why the target stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldReason {
    /// Pressure is between the marks.
    Band,
    /// The last change is too recent.
    TooSoon,
    /// The host is short, and the zone has nothing more to give.
    Full,
    /// The host has plenty, and the balloon is empty.
    Empty,
}

/// The next target. `holds` is what the balloon has reached so far of its present target.
#[must_use]
pub fn decide(
    psi: &Psi,
    view: &ZoneView,
    holds: FrameCount,
    recent: RecentChanges,
    settings: &Settings,
) -> Decision {
    let step = settings.step.0.max(PAGEBLOCK_FRAMES.into());
    let reserve = settings.reserve.max(view.short_below).0;
    let taken = view.others.0.saturating_add(reserve);
    let high = psi.some.avg10 > settings.raise_above;
    let calm = psi.some.avg10.max(psi.some.avg60) < settings.lower_below;
    // The balloon's own frames are usable by others once it lets go; so room is counted without it.
    let short = !high && view.usable.0.saturating_sub(holds.0) < taken;
    if high {
        let ceiling = view.usable.0.saturating_add(view.reclaimable.0).saturating_sub(taken);
        let ceiling = ceiling.min(settings.max_target.map_or(u64::MAX, |most| most.0));
        let next = whole_blocks(holds.0.saturating_add(step).min(ceiling));
        let wait = settings.raise_every.saturating_mul(1 << recent.failed_raises.min(5));
        match () {
            () if next <= holds => Decision::Hold(HoldReason::Full),
            () if recent.since_change < wait => Decision::Hold(HoldReason::TooSoon),
            () => Decision::Raise(next),
        }
    } else if calm || short {
        match () {
            () if holds.0 == 0 => {
                Decision::Hold(if calm { HoldReason::Empty } else { HoldReason::Band })
            }
            () if recent.since_change < settings.lower_every => Decision::Hold(HoldReason::TooSoon),
            () => Decision::Lower(whole_blocks(holds.0.saturating_sub(step))),
        }
    } else {
        Decision::Hold(HoldReason::Band)
    }
}

/// Rounds down, so that no huge page is broken for a remainder.
fn whole_blocks(frames: u64) -> FrameCount {
    FrameCount(frames - frames % u64::from(PAGEBLOCK_FRAMES))
}

#[cfg(all(test, not(loom)))]
#[path = "policy_tests.rs"]
mod tests;
