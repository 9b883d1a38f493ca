//! Whether an allocation may reclaim memory from owners, and how it does.

use crate::error::AllocError;
use crate::events::add;
use crate::units::{FrameCount, MigrateType, Order, Pfn};
use crate::zone::Zone;

/// How often one request reclaims: other requests may take what it freed.
const MAX_RETRIES: u32 = 8;

/// What a request may do when no frame is free.
///
/// It always drains the per-CPU lists: their locks come last in the order, so this is safe
/// wherever frames are allocated. Calling shrinkers of owners is not, and needs the promise of
/// [`NoLocksHeld`].
#[derive(Debug)]
pub enum Reclaim {
    /// The request does only what the zone can do by itself.
    NotAllowed,
    /// The request may call shrinkers.
    Allowed(NoLocksHeld),
}

/// The promise that the calling thread holds no lock of the pool or of a chain.
#[derive(Debug)]
pub struct NoLocksHeld(());

impl NoLocksHeld {
    /// Makes the promise. A thread that breaks it can deadlock.
    #[must_use]
    pub fn promise() -> Self {
        Self(())
    }
}

/// The result of a reclaim.
pub(crate) enum ReclaimProgress {
    /// A block was made and belongs to the request.
    Captured(Pfn),
    /// Frames became free; other requests may take them.
    Freed,
    /// Nothing could be reclaimed.
    Nothing,
}

impl Zone {
    /// Compacts or reclaims for a request that was refused. For a block it compacts first, which
    /// takes no memory from an owner.
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

    /// Calls shrinkers for a request that would be refused: [`Zone::shrink`], counted as a stall.
    ///
    /// Locking: no lock is held while they run.
    pub fn reclaim_direct(&self, want: FrameCount, promise: &NoLocksHeld) -> FrameCount {
        add(&self.events.allocstall, 1);
        let freed = self.shrink(want, promise);
        add(&self.events.pgsteal_direct, freed.0);
        freed
    }
}
