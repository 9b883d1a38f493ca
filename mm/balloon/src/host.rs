//! The host: the receiver of ballooned memory.

use std::fmt::Debug;

use frames::{DiscardError, Frame, FrameCount, Order, OwnedBlock, Pfn, Target};
use thiserror::Error;

/// The receiver of a balloon's memory, for example a hypervisor or the OS.
///
/// Locking: called with the balloon's device lock held, from any thread. An implementation may
/// allocate and free frames and may make the zone compact. A call of
/// [`Balloon::set_target`](crate::Balloon::set_target) on the same thread is refused
/// ([`StopReason::Reentered`](crate::StopReason::Reentered)).
pub trait Host: Debug + Send + Sync {
    /// Takes the memory of the batch's frames until [`Host::deflate`] names them.
    ///
    /// # Errors
    /// [`InflateError`]: the host has taken nothing. The balloon frees the batch and ends the
    /// resize.
    fn inflate(&self, batch: &mut InflateBatch<'_, '_>) -> Result<(), InflateError>;

    /// Gives memory back to the arena. The frames may be touched once this returns.
    ///
    /// The host cannot refuse. If it is short of memory itself, it delays the return.
    fn deflate(&self, ranges: &[FrameRange]);
}

/// The reason why a host did not take memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InflateError {
    /// The memory could not be decommitted.
    #[error(transparent)]
    Discard(#[from] DiscardError),
    /// The host declined.
    #[error("the host declined the memory: {why}")]
    Declined {
        /// The host's reason.
        why: &'static str,
    },
}

/// A frame or a pageblock, by frame number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameRange {
    /// The first frame.
    pub first: Pfn,
    /// The order of the range: that of a frame or of a pageblock.
    pub order: Order,
}

impl FrameRange {
    /// Returns the range of a single frame.
    pub(crate) const fn frame(first: Pfn) -> Self {
        Self { first, order: Order::SINGLE }
    }

    /// Returns the range of a block.
    pub(crate) fn block(block: &OwnedBlock) -> Self {
        Self { first: block.first(), order: block.order() }
    }

    /// Returns the number of frames.
    #[must_use]
    pub fn frames(self) -> FrameCount {
        FrameCount(self.order.frames().into())
    }
}

/// The frames of one inflate message. During the call no other thread can move or use them.
#[derive(Debug, Default)]
pub struct InflateBatch<'a, 'z> {
    pub(crate) blocks: &'a mut [OwnedBlock],
    pub(crate) frames: &'a mut [Frame<'z>],
    /// The target of a migration, which is a message of its own.
    pub(crate) target: Option<&'a mut Target<'z>>,
}

impl InflateBatch<'_, '_> {
    /// Returns the frames as ranges, at most [`MAX_BATCH`](crate::MAX_BATCH).
    pub fn ranges(&self) -> impl Iterator<Item = FrameRange> + '_ {
        let target = self.target.iter().map(|target| target.pfn());
        let singles = self.frames.iter().map(Frame::pfn).chain(target);
        self.blocks.iter().map(FrameRange::block).chain(singles.map(FrameRange::frame))
    }

    /// Decommits the memory: whole blocks first, then single frames, with neighbours joined.
    ///
    /// # Errors
    /// [`DiscardError`] when the OS refuses. Frames decommitted by then read as zeros; they had no
    /// content.
    pub fn discard(&mut self) -> Result<(), DiscardError> {
        self.blocks.iter_mut().try_for_each(OwnedBlock::discard)?;
        Frame::discard_all(self.frames)?;
        self.target.iter_mut().try_for_each(|target| target.discard())
    }
}

/// The operating system as host: memory leaves the process and comes back as zeros when touched.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsHost;

impl Host for OsHost {
    fn inflate(&self, batch: &mut InflateBatch<'_, '_>) -> Result<(), InflateError> {
        Ok(batch.discard()?)
    }

    fn deflate(&self, _: &[FrameRange]) {
        // The range is still mapped, and the OS commits pages again as they are touched.
    }
}
