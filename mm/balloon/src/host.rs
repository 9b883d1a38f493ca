//! Who gets the memory.

use std::fmt::{self, Debug};

use frames::{DiscardError, Frame, FrameCount, Order, OwnedBlock, Pfn, Target};
use thiserror::Error;

/// The other side of a balloon: it gets memory and gives it back.
///
/// Locking: called with the balloon's device lock held, from any thread. So it may free and allocate, and may make the zone compact, but a call of
/// [`Balloon::set_target`](crate::Balloon::set_target) on the same thread is refused ([`StopReason::Reentered`](crate::StopReason::Reentered)).
pub trait Host: Debug + Send + Sync {
    /// Takes the memory below these frames. It has them until they are named in [`Host::deflate`].
    ///
    /// # Errors
    /// [`InflateError`]: the host has none of them then. The balloon gives the frames back to the zone and tries no further.
    fn inflate(&self, batch: &mut InflateBatch<'_, '_>) -> Result<(), InflateError>;

    /// Gives memory back. It may be touched as soon as this returns, and not before.
    ///
    /// There is no way to refuse: what was lent is returned. A host that is short itself makes the caller wait.
    fn deflate(&self, ranges: &[FrameRange]);
}

/// Why a host did not take memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InflateError {
    /// The memory could not leave this process.
    #[error(transparent)]
    Lend(#[from] DiscardError),
    /// The host has its own reasons.
    #[error("the host does not take memory: {why}")]
    Declined {
        /// In its own words.
        why: &'static str,
    },
}

/// A block of frames, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameRange {
    /// The first frame.
    pub first: Pfn,
    /// How many frames there are, as a power of two: a frame or a pageblock.
    pub order: Order,
}

impl FrameRange {
    pub(crate) const fn frame(first: Pfn) -> Self {
        Self { first, order: Order::SINGLE }
    }

    pub(crate) fn block(block: &OwnedBlock) -> Self {
        Self { first: block.first(), order: block.order() }
    }

    /// Frames in it.
    #[must_use]
    pub fn frames(self) -> FrameCount {
        FrameCount(self.order.frames().into())
    }
}

impl fmt::Display for FrameRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.first, self.order)
    }
}

/// Frames on their way to the host. They are the balloon's alone: nobody can move or use them during the call.
#[derive(Debug)]
pub struct InflateBatch<'a, 'z>(BatchKind<'a, 'z>);

#[derive(Debug)]
enum BatchKind<'a, 'z> {
    Batch { blocks: &'a mut [OwnedBlock], frames: &'a mut [Frame<'z>] },
    Target(&'a mut Target<'z>),
}

impl<'a, 'z> InflateBatch<'a, 'z> {
    pub(crate) fn from_frames(blocks: &'a mut [OwnedBlock], frames: &'a mut [Frame<'z>]) -> Self {
        Self(BatchKind::Batch { blocks, frames })
    }

    pub(crate) fn from_target(target: &'a mut Target<'z>) -> Self {
        Self(BatchKind::Target(target))
    }

    /// What is lent: at most [`MAX_BATCH`](crate::MAX_BATCH) ranges.
    pub fn ranges(&self) -> impl Iterator<Item = FrameRange> + '_ {
        let (blocks, frames, target): (&[OwnedBlock], &[Frame<'z>], _) = match &self.0 {
            BatchKind::Batch { blocks, frames } => (blocks, frames, None),
            BatchKind::Target(target) => (&[], &[], Some(target.pfn())),
        };
        let blocks = blocks.iter().map(FrameRange::block);
        blocks.chain(frames.iter().map(Frame::pfn).chain(target).map(FrameRange::frame))
    }

    /// Makes the memory leave this process: whole blocks first, then single frames, neighbours together.
    ///
    /// # Errors
    /// [`DiscardError`]. What has left by then holds nothing anyway; it comes back as zeros when it is touched.
    pub fn discard(&mut self) -> Result<(), DiscardError> {
        match &mut self.0 {
            BatchKind::Batch { blocks, frames } => {
                blocks.iter_mut().try_for_each(OwnedBlock::discard)?;
                Frame::discard_all(frames)
            }
            BatchKind::Target(target) => target.discard(),
        }
    }
}

/// The operating system: memory given to it leaves the process, and comes back as zeros when it is touched.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsHost;

impl Host for OsHost {
    fn inflate(&self, batch: &mut InflateBatch<'_, '_>) -> Result<(), InflateError> {
        Ok(batch.discard()?)
    }

    fn deflate(&self, _: &[FrameRange]) {
        // The range is still mapped: the OS brings memory back page by page as it is touched.
    }
}
