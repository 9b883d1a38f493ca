//! Migration of a zspage's frames: the pool's side of frame compaction (R-400..R-417).
//!
//! A handle names a chain and an object in it, never a frame, so moving a frame changes no location word and pins no object. The frame's chain is
//! taken exclusively for the one copy, or not at all. Nothing of the kernel's book-keeping is needed around it: an isolated zspage stays on its
//! list, serves allocations and may be freed, because an isolation holds a reference to its frame and finds out by itself that the frame was let go of.

use frames::{Committed, LockedFrame, MigrateError, MigrateMode, MovableOps, Target};

use crate::pool::Pool;

impl MovableOps for Pool {
    fn isolate(&self, frame: &LockedFrame<'_>) -> bool {
        !self.is_poisoned() && self.zspages.chains().can_isolate(frame)
    }

    fn migrate<'z>(
        &self,
        from: &LockedFrame<'_>,
        to: Target<'z>,
        _: MigrateMode,
    ) -> Result<Committed, MigrateError<'z>> {
        if self.is_poisoned() {
            return Err(MigrateError::Failed(to));
        }
        let moved = self.zspages.chains().migrate_frame(from, to);
        // Page lock before class: `free_deferred` takes the class lock of the chain, which nobody holds who waits for a page lock.
        if let Some((chain, leaving)) = moved.released {
            self.free_deferred_if_pending(chain, leaving);
        }
        moved.result
    }

    fn putback(&self, _: &LockedFrame<'_>) {
        // Isolation took nothing from the zspage, so there is nothing to give back.
    }
}
