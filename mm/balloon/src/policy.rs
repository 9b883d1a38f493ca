//! The policy of automatic resizing: a pure function of memory pressure, zone and balloon.
//!
//! Pressure means that the *host* is short of memory, so the balloon grows: first caches and
//! compaction free frames, then the store has less room. Without pressure the balloon shrinks
//! again. It also shrinks when the zone is short and the host is not.
//!
//! ```text
//!  some avg10      0 %    lower_below            raise_above           100 %
//!                  |----------|----------------------|--------------------|
//!                    smaller           unchanged              larger
//! ```
//! Three rules prevent oscillation: pressure between the two marks changes nothing; the balloon
//! grows by the short average but shrinks only when both averages are low; and after each change it
//! waits for the effect.

use std::time::Duration;

use frames::{FrameCount, PAGEBLOCK_FRAMES, Watermarks, ZoneStats};
use sys::host::{Psi, Share};

use crate::balloon::BalloonSource;

/// Settings of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The balloon grows when tasks stalled for more than this share of the last 10 seconds.
    pub raise_above: Share,
    /// It shrinks when tasks stalled for less than this share of the last 10 and 60 seconds each.
    pub lower_below: Share,
    /// The size of one change; at least a pageblock.
    pub step: FrameCount,
    /// The minimum time from a change to the next growth.
    pub raise_every: Duration,
    /// The minimum time from a change to the next shrinking.
    pub lower_every: Duration,
    /// The free frames left to the zone's other users; at least the zone's high watermark.
    pub reserve: FrameCount,
    /// The largest target the policy sets; `None` for no limit but the zone's.
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

/// The policy's view of a zone with a balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneView {
    /// The frames all users of the zone may have together.
    pub usable: FrameCount,
    /// The frames in use by others than the balloon.
    pub others: FrameCount,
    /// The frames that the other shrinkers could free.
    pub reclaimable: FrameCount,
    /// The number of free frames below which the zone is short.
    pub short_below: FrameCount,
}

impl ZoneView {
    /// Returns the view of a zone whose balloon has `actual` frames.
    ///
    /// Without a limit, a zone decommits free memory by itself, and its untouched frames hold none.
    /// So for [`BalloonSource::CommittedFrames`] only committed frames are usable.
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

/// The recent history of the balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentChanges {
    /// The time since the last change of the target; `Duration::MAX` for never.
    pub since_change: Duration,
    /// The number of raises in a row that freed no memory. Up to five double the wait for the next.
    pub failed_raises: u32,
}

/// A decision of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Raises the target to this.
    Raise(FrameCount),
    /// Lowers the target to this.
    Lower(FrameCount),
    /// Keeps the target, for this reason.
    Hold(HoldReason),
}

/// The reason why the target does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldReason {
    /// The pressure is between the marks.
    Band,
    /// The last change is too recent.
    TooSoon,
    /// The host is short of memory, and the zone has no more to give.
    Full,
    /// The host is not short of memory, and the balloon is empty.
    Empty,
}

/// Decides the next target. `actual` is the balloon's size, which may differ from its target.
#[must_use]
pub fn decide(
    psi: &Psi,
    view: &ZoneView,
    actual: FrameCount,
    recent: RecentChanges,
    settings: &Settings,
) -> Decision {
    let step = settings.step.0.max(PAGEBLOCK_FRAMES.into());
    let reserve = settings.reserve.max(view.short_below).0;
    let taken = view.others.0.saturating_add(reserve);
    let high = psi.some.avg10 > settings.raise_above;
    let calm = psi.some.avg10.max(psi.some.avg60) < settings.lower_below;
    // The zone is short if less than the others' frames and the reserve is outside the balloon.
    let short = !high && view.usable.0.saturating_sub(actual.0) < taken;
    if high {
        // Grow by a step, as far as the zone can give, unless the last change is too recent.
        let ceiling = view.usable.0.saturating_add(view.reclaimable.0).saturating_sub(taken);
        let ceiling = ceiling.min(settings.max_target.map_or(u64::MAX, |max| max.0));
        let next = whole_blocks(actual.0.saturating_add(step).min(ceiling));
        let wait = settings.raise_every.saturating_mul(1 << recent.failed_raises.min(5));
        match () {
            () if next <= actual => Decision::Hold(HoldReason::Full),
            () if recent.since_change < wait => Decision::Hold(HoldReason::TooSoon),
            () => Decision::Raise(next),
        }
    } else if calm || short {
        // Shrink by a step, unless the last change is too recent.
        match () {
            () if actual.0 == 0 => {
                Decision::Hold(if calm { HoldReason::Empty } else { HoldReason::Band })
            }
            () if recent.since_change < settings.lower_every => Decision::Hold(HoldReason::TooSoon),
            () => Decision::Lower(whole_blocks(actual.0.saturating_sub(step))),
        }
    } else {
        Decision::Hold(HoldReason::Band)
    }
}

/// Rounds down to whole pageblocks, so that no huge page is broken up for a remainder.
fn whole_blocks(frames: u64) -> FrameCount {
    FrameCount(frames - frames % u64::from(PAGEBLOCK_FRAMES))
}

#[cfg(all(test, not(loom)))]
mod tests;
