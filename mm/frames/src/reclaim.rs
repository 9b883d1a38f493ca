//! Whether an allocation may make room at the cost of others, and how it does.

use crate::error::AllocError;
use crate::events::add;
use crate::units::{FrameCount, MigrateType, Order, Pfn};
use crate::zone::Zone;

/// Times one request makes room: others may take what it freed.
const MAX_RETRIES: u32 = 8;

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

/// The promise that the calling thread holds no lock of the pool or of a chain.
#[derive(Debug)]
pub struct NoLocksHeld(());

impl NoLocksHeld {
    /// Makes the promise. A thread that breaks it may wait for itself.
    #[must_use]
    pub fn promise() -> Self {
        Self(())
    }
}

/// What making room came to.
pub(crate) enum ReclaimProgress {
    /// A block was made, and it is the requester's.
    Captured(Pfn),
    /// Something became free; others may take it.
    Freed,
    /// Nothing more to be had.
    Nothing,
}

impl Zone {
    /// Makes room for a request that was refused. For neighbouring frames it compacts first, which takes nothing from anybody.
    pub(crate) fn compact_or_reclaim(
        &self,
        order: Order,
        migrate_type: MigrateType,
        error: AllocError,
        promise: &NoLocksHeld,
        tries: u32,
    ) -> ReclaimProgress {
        if tries >= MAX_RETRIES {
            return ReclaimProgress::Nothing;
        }
        if error == AllocError::NoFrames
            && order > Order::SINGLE
            && let Ok(pfn) = self.compact_direct(order, migrate_type)
        {
            return ReclaimProgress::Captured(pfn);
        }
        if self.reclaim_direct(FrameCount(order.frames().into()), promise).0 > 0 {
            ReclaimProgress::Freed
        } else {
            ReclaimProgress::Nothing
        }
    }

    /// Has shrinkers give up frames for a request that would be refused: [`Zone::shrink`], counted as a stall.
    ///
    /// Locking: none while they work.
    pub fn reclaim_direct(&self, want: FrameCount, promise: &NoLocksHeld) -> FrameCount {
        add(&self.events.allocstall, 1);
        let freed = self.shrink(want, promise);
        add(&self.events.pgsteal_direct, freed.0);
        freed
    }
}
