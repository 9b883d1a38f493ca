//! What an owner of movable frames can do.

use std::fmt::Debug;
use std::time::Duration;

use super::{Committed, LockedFrame, Target};
use crate::lru::Lru;
use crate::units::Pfn;

/// The first of the two calls that climb: a frame of yours is being moved.
///
/// Register with [`Zone::register`](crate::Zone::register). Each method is called with the frame's page lock held and no lock of the zone, from any thread.
///
/// A callback that panics counts as one that failed: the frame is put back, the caller goes on.
pub trait MovableOps: Debug + Send + Sync {
    /// Whether the frame may be taken aside now. `false` changes nothing.
    ///
    /// The owner may go on using an isolated frame, and may let go of it: migration finds out. What it must not do is to rely on the links
    /// of the frame's descriptor from here to [`MovableOps::putback`] or the end of [`MovableOps::migrate`].
    fn isolate(&self, frame: &LockedFrame<'_>) -> bool;

    /// Moves the content of `from` to `to`, and hands `to` over by [`Target::commit`] under whatever lock of its own keeps others from both.
    ///
    /// Never waits for a reader and never allocates.
    ///
    /// # Errors
    /// [`MigrateError`], with the target inside; nothing has changed then.
    fn migrate<'z>(
        &self,
        from: &LockedFrame<'_>,
        to: Target<'z>,
        mode: MigrateMode,
    ) -> Result<Committed, MigrateError<'z>>;

    /// The frame was not moved and is the owner's alone again. It is still marked as isolated during the call.
    fn putback(&self, frame: &LockedFrame<'_>);

    /// A request needs exactly this frame and could not have it. An owner that pins frames for a long time, such as a driver whose device has their
    /// addresses, may end the pin now; the request then finds the frame movable on its next pass. Nothing depends on the answer.
    ///
    /// Only [`MigrateMode::Sync`] asks. Called without the page lock, so `pfn` may be another owner's by now: look it up.
    fn request_unpin(&self, pfn: Pfn) {
        let _ = pfn;
    }

    /// The lists its frames are on, for an owner of LRU frames: only a frame on a list can be isolated then, and it is off its list until it was moved or
    /// put back. An owner that panics here, or shows the lists of another owner, keeps its frames where they are.
    fn lru(&self) -> Option<&Lru> {
        None
    }
}

/// How hard migration may try.
///
/// A frame is busy while a thread reads its owner's data, or its host is being told of another one. The callbacks never wait for that, in no
/// mode: they answer [`MigrateError::Again`]. The mode says whether [`Zone::migrate_pages`](crate::Zone::migrate_pages) waits between its passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrateMode {
    /// Never leaves the CPU: for work in the background and for callers that must not block.
    Async,
    /// Sleeps for 50 us before each pass from the fourth on, when only busy frames are left.
    SyncLight,
    /// As `SyncLight`, for 500 us: for a request that needs exactly these frames.
    Sync,
}

impl MigrateMode {
    /// The first pass that waits: before it a busy frame is most likely free again by itself.
    const FIRST_WAIT: u32 = 3;

    /// How long a pass may wait for busy frames before it begins; `None` when it must not.
    pub(super) fn wait_before(self, pass: u32) -> Option<Duration> {
        let wait = match self {
            Self::Async => return None,
            Self::SyncLight => Duration::from_micros(50),
            Self::Sync => Duration::from_micros(500),
        };
        (pass >= Self::FIRST_WAIT).then_some(wait)
    }
}

/// Why an owner did not move a frame. The target comes back with it.
#[derive(Debug)]
#[must_use = "the target is given back when this is dropped"]
pub enum MigrateError<'z> {
    /// Somebody is using it: the next pass may find it free.
    Again(Target<'z>),
    /// Not in this call.
    Failed(Target<'z>),
    /// The owner has let go of the frame, so there is nothing to move.
    Gone(Target<'z>),
}
