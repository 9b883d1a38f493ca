//! Whether an allocation may make room at the cost of others, and how it does.

use crate::compaction::{CompactRequest, Goal};
use crate::error::AllocError;
use crate::events::add;
use crate::migrate::Mode;
use crate::units::{FrameCount, Order};
use crate::zone::Zone;

/// Times one request makes room: others may take what it freed.
const TRIES: u32 = 8;

/// What a request for frames may do when there are none.
///
/// Draining the per-CPU lists is always done: their locks come last in the order, so it is safe wherever frames may be asked for. Calling back
/// into owners to give frames up is not, and needs the promise of [`NoLocksHeld`].
#[derive(Debug)]
pub enum Reclaim {
    /// Only what the zone can do by itself.
    NotAllowed,
    /// Owners may be asked to give frames up.
    Allowed(NoLocksHeld),
}

/// The promise that the calling thread holds no lock of the pool or of an extent.
#[derive(Debug)]
pub struct NoLocksHeld(());

impl NoLocksHeld {
    /// Makes the promise. A thread that breaks it may wait for itself.
    #[must_use]
    pub fn promise() -> Self {
        Self(())
    }
}

impl Zone {
    /// Makes room for a request that was refused; `false` when that is not worth another try.
    pub(crate) fn make_room(&self, order: Order, error: AllocError, promise: &NoLocksHeld, tries: u32) -> bool {
        if tries >= TRIES {
            return false;
        }
        let scattered = error == AllocError::NoFrames && order > Order::SINGLE;
        (scattered && self.compact_for(order)) || self.shrink(FrameCount(order.frames().into()), promise).0 > 0
    }

    /// Direct compaction: a request for neighbouring frames waits for it. Whether there is a block now.
    fn compact_for(&self, order: Order) -> bool {
        add(&self.events.stall, 1);
        let goal = Goal::Block(order);
        self.compact(CompactRequest { goal, mode: Mode::SyncLight, ..CompactRequest::default() });
        self.is_reached(goal)
    }
}
