//! Migration of a chain's frame: what every owner of chains calls from its
//! [`MovableOps`](crate::MovableOps).
//!
//! A frame's private value names its chain and its position there. It is read without a lock, so
//! it is a hint: the chain is then tried exclusively and the position is checked again.

use sync::atomic::Ordering;

use super::chains::{FrameChains, frame_at};
use super::guard::ReleaseStatus;
use super::id::ChainId;
use super::state::ChainState;
use crate::zone::{Committed, LockedFrame, MigrateError, Target};

/// The result of moving a frame of a chain.
#[derive(Debug)]
#[must_use = "the last guard to leave must do the pending work"]
pub struct FrameMove<'z> {
    /// What the guard found when it left the chain: pending work is then the caller's.
    pub released: Option<(ChainId, ReleaseStatus)>,
    /// What [`MovableOps::migrate`](crate::MovableOps::migrate) returns.
    pub result: Result<Committed, MigrateError<'z>>,
}

impl FrameChains {
    /// Returns whether a frame may be isolated: it is still where its private value says, and its
    /// chain has no pending work, which would free it.
    #[must_use]
    pub fn can_isolate(&self, frame: &LockedFrame<'_>) -> bool {
        self.locate(frame).is_some_and(|(id, _)| !self.is_pending(id))
    }

    /// Moves the content of `from` to `to`, which replaces it. Never waits: while another guard
    /// of the chain exists, the result is [`MigrateError::Again`].
    pub fn migrate_frame<'z>(&self, from: &LockedFrame<'_>, to: Target<'z>) -> FrameMove<'z> {
        let Some((id, position)) = self.locate(from) else {
            return FrameMove { released: None, result: Err(MigrateError::Gone(to)) };
        };
        let Some(mut held) = self.try_exclusive(id) else {
            return FrameMove { released: None, result: Err(MigrateError::Again(to)) };
        };
        // A frame that is about to be freed is not worth a copy (R-403, S-16): the holder that
        // leaves with the mark frees it first.
        let result = if self.is_pending(id) {
            Err(MigrateError::Again(to))
        } else {
            held.migrate(position, from, to)
        };
        FrameMove { released: Some((id, held.release())), result }
    }

    /// Returns the chain and position in a frame's private value, if the frame is there.
    fn locate(&self, frame: &LockedFrame<'_>) -> Option<(ChainId, usize)> {
        // A private value of another zone's frame would name another chain here.
        if !std::ptr::eq(frame.allocator(), self.zone().allocator()) {
            return None;
        }
        let (name, position) = frame.private()?;
        let (id, position) = (ChainId::from_bits(name), usize::from(position));
        self.tag(id)?;
        (frame_at(self.record(id)?, position) == Some(frame.pfn())).then_some((id, position))
    }

    /// Returns whether the chain has pending work. Stale as soon as it is returned.
    #[must_use]
    pub fn is_pending(&self, id: ChainId) -> bool {
        // Relaxed: a hint. The last guard to leave does the work, whatever this returns.
        self.state(id).is_some_and(|word| ChainState(word.load(Ordering::Relaxed)).is_pending())
    }
}
