//! Calling shrinkers.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::units::FrameCount;
use crate::zone::{NoLocksHeld, Zone};

/// Calls shrinkers: see [`Zone::shrink`].
pub(super) fn shrink(zone: &Zone, want: FrameCount, promise: &NoLocksHeld) -> FrameCount {
    if zone.is_poisoned() {
        return FrameCount(0);
    }
    let mut freed = 0_u64;
    for shrinker in zone.shrinkers().snapshot() {
        if freed >= want.0 {
            break;
        }
        freed = freed.saturating_add(call_catching_panic(|| {
            shrinker.scan(FrameCount(want.0 - freed), promise)
        }));
    }
    FrameCount(freed)
}

/// Adds up the estimates of all shrinkers.
pub(super) fn count(zone: &Zone) -> FrameCount {
    let all = zone.shrinkers().snapshot().into_iter();
    let counts = all.map(|shrinker| call_catching_panic(|| shrinker.count()));
    FrameCount(counts.fold(0, u64::saturating_add))
}

/// Returns what a call freed: nothing if it panics.
fn call_catching_panic(call: impl FnOnce() -> FrameCount) -> u64 {
    catch_unwind(AssertUnwindSafe(call)).map_or(0, |frames| frames.0)
}
