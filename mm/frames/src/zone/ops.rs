//! The callbacks of an owner of movable frames.

use std::fmt::Debug;
use std::time::Duration;

use super::locked::LockedFrame;
use super::target::{Committed, MigrateError, Target};
use crate::units::Pfn;

/// The callbacks that the zone makes into the owner of a frame which is to be moved.
///
/// Publish them with [`Owner::publish`](crate::Owner::publish). Each method that gets a
/// [`LockedFrame`] is called from any thread, with the frame's page lock held and no lock of the
/// zone. A callback that panics counts as one that failed: the frame is put back.
pub trait MovableOps: Debug + Send + Sync {
    /// Returns whether the frame may be isolated now. `false` changes nothing.
    ///
    /// The owner may keep using an isolated frame and may release it: migration notices.
    /// Until [`MovableOps::putback`], or the end of [`MovableOps::migrate`], the owner must not
    /// rely on the links of the frame's descriptor.
    fn isolate(&self, frame: &LockedFrame<'_>) -> bool;

    /// Moves the content of `from` to `to`, then calls [`Target::commit`] under the owner's lock
    /// that protects both frames.
    ///
    /// Never waits for a reader and never allocates.
    ///
    /// # Errors
    /// [`MigrateError`], which returns the target. Nothing has changed then.
    fn migrate<'z>(
        &self,
        from: &LockedFrame<'_>,
        to: Target<'z>,
        mode: MigrateMode,
    ) -> Result<Committed, MigrateError<'z>>;

    /// Takes back a frame that was not moved. It is still marked as isolated during the call
    ///
    fn putback(&self, frame: &LockedFrame<'_>);

    /// Asks the owner to unpin a frame that a request needs: its next pass then finds it movable.
    /// For owners that pin frames for a long time; the request does not depend on it.
    ///
    /// Only [`MigrateMode::Sync`] asks. Called without the page lock, so the frame may already
    /// belong to another owner: look it up.
    fn request_unpin(&self, _: Pfn) {}
}

/// How hard migration may try.
///
/// A frame is busy while a thread reads its owner's data, or while the owner's host is being told
/// about another frame. The callbacks never wait but return [`MigrateError::Again`]. The mode says
/// whether [`Zone::migrate_pages`](crate::Zone::migrate_pages) sleeps between its passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrateMode {
    /// Never sleeps: for background work and for callers that must not block.
    Async,
    /// Sleeps for 50 us before each pass from the fourth on, while busy frames are left.
    SyncLight,
    /// As `SyncLight`, for 500 us: for a request that needs exactly these frames.
    Sync,
}

impl MigrateMode {
    /// The first pass that sleeps. Before it, most busy frames become free without a wait.
    const FIRST_WAIT: u32 = 3;

    /// Returns how long to sleep before `pass`, or `None` when the pass starts at once.
    pub(crate) fn wait_before(self, pass: u32) -> Option<Duration> {
        match self {
            Self::SyncLight if pass >= Self::FIRST_WAIT => Some(Duration::from_micros(50)),
            Self::Sync if pass >= Self::FIRST_WAIT => Some(Duration::from_micros(500)),
            _ => None,
        }
    }
}
