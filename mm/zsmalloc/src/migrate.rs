//! Migration of a zspage's frames: the pool's side of frame compaction (R-400..R-417).
//!
//! A handle names a chain and an object in it, never a frame. So moving a frame changes no
//! location word and pins no object. Migration only tries to take the frame's chain exclusively,
//! for the one copy. An isolated zspage stays on its list, serves allocations and may be freed.

use frames::{Committed, LockedFrame, MigrateError, MigrateMode, MovableOps, Target};

use crate::free::free_deferred;
use crate::pool::Pool;

impl MovableOps for Pool {
    fn isolate(&self, frame: &LockedFrame<'_>) -> bool {
        !self.is_poisoned() && self.zspages.chains.can_isolate(frame)
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
        let moved = self.zspages.chains.migrate_frame(from, to);
        // Lock order, page lock before class lock: `free_deferred` takes the class lock, and no
        // holder of a class lock waits for a page lock.
        if let Some((chain, leaving)) = moved.released {
            free_deferred(self, chain, leaving);
        }
        moved.result
    }

    fn putback(&self, _: &LockedFrame<'_>) {
        // Isolation changes nothing in the zspage, so there is nothing to undo.
    }
}
