//! Room when memory is short: what can give frames up is asked before a write is refused.

use std::time::Duration;

use frames::{Budget, CompactRequest, FrameCount, NoLocksHeld, PAGEBLOCK_FRAMES, Zone};
use sync::Mutex;

/// Times room is sought for one write, and times in a row in vain for all of them while nothing is freed.
pub(crate) const MAX_RECLAIM_RETRIES: u32 = 8;

/// What a table asks for at once is less than this. Units: bytes.
const TABLE_HEADROOM: u64 = 256 << 10;

/// How long frames are moved together for a table that needs memory.
const COMPACT_TIMEOUT: Duration = Duration::from_millis(20);

/// Lets one thread at a time ask for room, and remembers when that was in vain.
///
/// Locking: one mutex, held while others make room: writers that reach the limit together wait for that instead of each starting it.
#[derive(Debug)]
pub(crate) struct Reclaimer {
    failed: Mutex<FailedReclaims>,
}

/// A shrinker had frames to give and gave none.
#[derive(Debug)]
struct FailedReclaims {
    /// How often in a row.
    count: u32,
    /// What had been freed by then.
    freed_before: u64,
}

impl Reclaimer {
    pub(crate) fn new() -> Self {
        Self {
            failed: Mutex::ranked(
                sync::Rank::Reclaim,
                FailedReclaims { count: 0, freed_before: 0 },
            ),
        }
    }

    /// Has the zone's shrinkers make room: hot pages are compressed, then objects are compacted, then whoever else can do without is asked. Says
    /// whether to ask again, should it not be enough: a frame was freed, or somebody still has frames to give who was busy with them. If not, what is
    /// free by now is all there is.
    ///
    /// `freed` counts what was freed on the device. While that stands still, a page that is always busy is no reason to ask more than once a write.
    ///
    /// One frame is asked for, since one is what a write wants, and each shrinker goes on to a good place to stop. Tables need memory that is no frame:
    /// pageblocks that are free go back to the OS first, and frames are moved together when there are enough free ones for another such block.
    pub(crate) fn reclaim(&self, zone: &Zone, freed: impl Fn() -> u64) -> bool {
        let mut failed = self.failed.lock();
        if reclaim_for_tables(zone) {
            return true;
        }
        if zone.shrinkable().0 == 0 {
            return false;
        }
        // Before they are asked: what is freed meanwhile is news.
        let freed = freed();
        if zone.reclaim_direct(FrameCount(1), &NoLocksHeld::promise()).0 > 0 {
            failed.count = 0;
            return true;
        }
        failed.count =
            if failed.freed_before == freed { failed.count.saturating_add(1) } else { 1 };
        failed.freed_before = freed;
        failed.count < MAX_RECLAIM_RETRIES
    }
}

/// Lowers what the zone holds by memory that no frame in use needs. Returns whether it did.
fn reclaim_for_tables(zone: &Zone) -> bool {
    let memory = zone.memory();
    if memory.available >= TABLE_HEADROOM || memory.unused < FrameCount(PAGEBLOCK_FRAMES.into()) {
        return false;
    }
    let promise = NoLocksHeld::promise();
    if zone.release_for_charge(&promise) {
        return true;
    }
    let _report = zone.compact(CompactRequest {
        budget: Budget::within(COMPACT_TIMEOUT),
        ..CompactRequest::default()
    });
    zone.release_for_charge(&promise)
}
