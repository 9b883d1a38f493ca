//! Reclaim of memory before a write is refused.

use std::time::Duration;

use frames::{Budget, CompactRequest, FrameCount, NoLocksHeld, PAGEBLOCK_FRAMES, Zone};
use sync::{Mutex, Rank};

/// The most reclaims for one write.
pub(crate) const MAX_RECLAIMS: u32 = 9;
/// The failed reclaims in a row, while nothing is freed, from which on a write reclaims only once.
const MAX_FAILED_RECLAIMS: u32 = 8;
/// An upper bound of what a table charges at once. Units: bytes.
const TABLE_HEADROOM: u64 = 256 << 10;
/// The time limit of frame compaction for a table that needs memory.
const COMPACT_TIMEOUT: Duration = Duration::from_millis(20);

/// Serializes reclaim for the writers of a device, and counts failures.
///
/// Locking: one mutex, held during reclaim: writers that reach the limit together wait for one.
#[derive(Debug)]
pub(crate) struct Reclaimer {
    failed: Mutex<FailedReclaims>,
}

/// The reclaims that freed nothing although a shrinker had frames.
#[derive(Debug, Default)]
struct FailedReclaims {
    /// How many in a row.
    count: u32,
    /// The device's count of freed entries at the last one.
    freed_before: u64,
}

impl Reclaimer {
    pub(crate) fn new() -> Self {
        Self { failed: Mutex::ranked(Rank::Reclaim, FailedReclaims::default()) }
    }

    /// Makes the shrinkers free memory: the cache compresses hot pages, objects are compacted, then
    /// others. Returns whether a retry can succeed: a frame was freed, or a shrinker was busy.
    ///
    /// `freed` returns the device's count of freed entries. While it does not change, a page that
    /// stays busy causes at most one reclaim per write.
    pub(crate) fn reclaim(&self, zone: &Zone, freed: impl Fn() -> u64) -> bool {
        let mut failed = self.failed.lock();
        if reclaim_for_tables(zone) {
            return true;
        }
        if zone.shrinkable().0 == 0 {
            return false;
        }
        // Read before the shrinkers run, so that a free during the reclaim counts as a change.
        let freed = freed();
        // A write needs one frame; each shrinker frees more up to where it is cheap to stop.
        if zone.reclaim_direct(FrameCount(1), &NoLocksHeld::promise()).0 > 0 {
            failed.count = 0;
            return true;
        }
        failed.count =
            if failed.freed_before == freed { failed.count.saturating_add(1) } else { 1 };
        failed.freed_before = freed;
        failed.count < MAX_FAILED_RECLAIMS
    }
}

/// Decommits free pageblocks, since tables need bytes below the limit rather than a frame. Compacts
/// frames first if enough are free to make another free pageblock. Returns whether it did.
fn reclaim_for_tables(zone: &Zone) -> bool {
    let memory = zone.memory();
    if memory.available >= TABLE_HEADROOM || memory.unused < FrameCount(PAGEBLOCK_FRAMES.into()) {
        return false;
    }
    let promise = NoLocksHeld::promise();
    if zone.release_for_charge(&promise) {
        return true;
    }
    let budget = Budget::within(COMPACT_TIMEOUT);
    let _report = zone.compact(CompactRequest { budget, ..CompactRequest::default() });
    zone.release_for_charge(&promise)
}
