//! Room when memory is short: whoever can give frames up is asked before a write is refused.

use frames::{FrameCount, NoLocksHeld, Zone};
use sync::Mutex;

/// Lets one thread at a time ask for room.
///
/// Locking: one mutex, held while others make room: writers that reach the limit together wait for that instead of each starting it.
#[derive(Debug)]
pub(crate) struct Relief {
    one_at_a_time: Mutex<()>,
}

impl Relief {
    pub(crate) fn new() -> Self {
        Self { one_at_a_time: Mutex::new(()) }
    }

    /// Has the zone's shrinkers make room: hot pages are compressed, then objects are compacted, then whoever else can do without is asked. Says
    /// whether it is worth trying again: a frame is free, or somebody still has frames to give who was busy with it.
    ///
    /// One frame is asked for, since one is what a write wants, and each shrinker goes on to a good place to stop.
    pub(crate) fn seek(&self, zone: &Zone) -> bool {
        let _alone = self.one_at_a_time.lock();
        zone.shrink(FrameCount(1), &NoLocksHeld::promise()).0 > 0 || zone.shrinkable().0 > 0
    }
}
