//! Moving a frame of a chain: what every owner of chains answers to [`MovableOps`](crate::MovableOps).
//!
//! A frame's name is its chain and its place in it. It is read without a lock, so it is a hint; the chain is taken exclusively, or not at all, and
//! the place is looked at again. Whatever names the chain and not the frame, such as a handle, does not change.

use super::guard::frame_at;
use super::state::ChainState;
use super::{ChainId, FrameChains, ReleaseStatus};
use crate::migrate::{Committed, LockedFrame, MigrateError, Target};
use sync::atomic::Ordering;

/// What moving a frame of a chain came to.
#[derive(Debug)]
#[must_use = "pending work is done by whoever leaves last, or never"]
pub struct FrameMove<'z> {
    /// What leaving the chain found, if it was entered: as for any other guard, pending work is now the caller's.
    pub released: Option<(ChainId, ReleaseStatus)>,
    /// What to answer.
    pub result: Result<Committed, MigrateError<'z>>,
}

impl FrameChains {
    /// Whether a frame may be isolated: it is still where its name says, and nobody has left work there that will give it back.
    #[must_use]
    pub fn can_isolate(&self, frame: &LockedFrame<'_>) -> bool {
        self.locate(frame).is_some_and(|(id, _)| !self.is_pending(id))
    }

    /// Moves the content of `from` to `to`, which takes its place. Never waits: while somebody is inside the chain the answer is to try again.
    pub fn migrate_frame<'z>(&self, from: &LockedFrame<'_>, to: Target<'z>) -> FrameMove<'z> {
        let Some((id, position)) = self.locate(from) else {
            return FrameMove { released: None, result: Err(MigrateError::Gone(to)) };
        };
        let Some(mut held) = self.try_exclusive(id) else {
            return FrameMove { released: None, result: Err(MigrateError::Again(to)) };
        };
        // A frame that is about to be given back is not worth a copy (R-403, S-16): whoever leaves with the mark does that first.
        let result = if self.is_pending(id) {
            Err(MigrateError::Again(to))
        } else {
            held.migrate(position, from, to)
        };
        FrameMove { released: Some((id, held.release())), result }
    }

    /// The chain and the position a frame's name stands for, if it is there.
    fn locate(&self, frame: &LockedFrame<'_>) -> Option<(ChainId, usize)> {
        // Numbers of another zone's frames mean others here.
        if !std::ptr::eq(frame.zone(), &**self.zone()) {
            return None;
        }
        let (name, position) = frame.private()?;
        let (id, position) = (ChainId::from_bits(name), usize::from(position));
        self.tag(id)?;
        (frame_at(self.record(id)?, position) == Some(frame.pfn())).then_some((id, position))
    }

    /// Whether somebody left work for whoever leaves the chain last. Stale as soon as it is returned.
    #[must_use]
    pub fn is_pending(&self, id: ChainId) -> bool {
        // Relaxed: a hint; the mark's work is done by who leaves, whatever is seen here.
        self.state(id)
            .is_some_and(|state| ChainState::from_bits(state.load(Ordering::Relaxed)).is_pending())
    }
}
