//! The zone's callbacks into a balloon: migration and reclaim.

use frames::{
    Committed, FrameCount, LockedFrame, MigrateError, MigrateMode, MovableOps, NoLocksHeld,
    Shrinker, Target,
};

use crate::balloon::Balloon;
use crate::host::{FrameRange, InflateBatch};

impl MovableOps for Balloon {
    /// isolates a frame under the pages lock, which always succeeds for a frame on the list.
    fn isolate(&self, frame: &LockedFrame<'_>) -> bool {
        let mut inner = self.inner.lock();
        let isolated = inner.isolate(frame.pfn());
        self.account.set_record_bytes(inner.bytes());
        isolated
    }

    /// the host gets the new frame before it gives the old one back, so it never has less
    /// than was promised. Nothing is copied: a ballooned frame has no content.
    fn migrate<'z>(
        &self,
        from: &LockedFrame<'_>,
        mut to: Target<'z>,
        _: MigrateMode,
    ) -> Result<Committed, MigrateError<'z>> {
        // The holder may be this very thread: its call of the host made the zone compact (S-41).
        let Some(_device) = self.device.try_lock() else { return Err(MigrateError::Again(to)) };
        let mut message = InflateBatch { target: Some(&mut to), ..InflateBatch::default() };
        if self.host.inflate(&mut message).is_err() {
            self.inner.lock().counts.host_refusals += 1;
            return Err(MigrateError::Failed(to));
        }
        let new = to.pfn();
        let mut inner = self.inner.lock();
        // Under the pages lock: a thread that isolates the new frame at once finds it on the list.
        let committed = to.commit(from);
        if committed.is_ok() {
            inner.replace(from.pfn(), new);
            self.account.set_record_bytes(inner.bytes());
        }
        drop(inner);
        // The host gives back the old frame, or the new one if the migration failed.
        let back = if committed.is_ok() { from.pfn() } else { new };
        self.tell_host_ignoring_panic(&[FrameRange::frame(back)]);
        committed
    }

    /// puts an isolated frame back on the list.
    fn putback(&self, frame: &LockedFrame<'_>) {
        let mut inner = self.inner.lock();
        inner.put_back(frame.pfn());
        self.account.set_record_bytes(inner.bytes());
    }
}

impl Shrinker for Balloon {
    /// Returns the size, or zero for a balloon that does not deflate on OOM.
    fn count(&self) -> FrameCount {
        if self.config.oom_frames.0 == 0 { FrameCount(0) } else { self.inner.lock().actual() }
    }

    /// deflates, unless the calling thread is inflating. The zone calls this shrinker last.
    fn scan(&self, target: FrameCount, _: &NoLocksHeld) -> FrameCount {
        if self.config.oom_frames.0 == 0 {
            return FrameCount(0);
        }
        self.deflate_on_oom(target.max(self.config.oom_frames))
    }
}
