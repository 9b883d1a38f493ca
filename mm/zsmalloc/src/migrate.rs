//! Migration of a zspage's frames: the pool's side of frame compaction (R-400..R-417).
//!
//! A handle names an extent and an object in it, never a frame, so moving a frame changes no location word and pins no object. The frame's extent is
//! taken exclusively for the one copy, or not at all. Nothing of the kernel's book-keeping is needed around it: an isolated zspage stays on its
//! list, serves allocations and may be freed, because an isolation holds a reference to its frame and finds out by itself that the frame was let go of.

use frames::{Accepted, Locked, Mode, MovableOps, Refused, Target};

use crate::pool::Pool;

impl MovableOps for Pool {
    fn isolate(&self, frame: &Locked<'_>) -> bool {
        !self.is_poisoned() && self.zspages.extents().can_isolate(frame)
    }

    fn migrate<'z>(
        &self,
        from: &Locked<'_>,
        to: Target<'z>,
        _: Mode,
    ) -> Result<Accepted, Refused<'z>> {
        if self.is_poisoned() {
            return Err(Refused::Failed(to));
        }
        let moved = self.zspages.extents().migrate_frame(from, to);
        // Page lock before class: reaping takes the class lock of the extent, which nobody holds who waits for a page lock.
        if let Some((extent, leaving)) = moved.left {
            self.leave(extent, leaving);
        }
        moved.result
    }

    fn putback(&self, _: &Locked<'_>) {
        // Isolation took nothing from the zspage, so there is nothing to give back.
    }
}
