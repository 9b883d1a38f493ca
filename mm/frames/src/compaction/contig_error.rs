//! Why a contiguous allocation failed.

use thiserror::Error;

use super::capture::CaptureError;
use crate::units::{FrameCount, Pfn};

/// Why a range could not be allocated. The zone is unchanged, except that movable frames may have
/// moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ContigError {
    /// The range is empty, or part of it is outside of the zone.
    #[error("{frames} from {first} on are not a range of the zone")]
    Range {
        /// The first frame.
        first: Pfn,
        /// The number of frames.
        frames: FrameCount,
    },
    /// Fewer frames than requested are left below the zone's limit.
    #[error("the zone's limit is reached")]
    Limit,
    /// A frame in the range cannot move now: its owner uses it, or another request has isolated
    /// its pageblock.
    #[error("{pfn} is busy")]
    Busy {
        /// The frame.
        pfn: Pfn,
    },
    /// A frame in the range has no owner that could move it.
    #[error("{pfn} cannot be moved")]
    Unmovable {
        /// The frame.
        pfn: Pfn,
    },
    /// No free frame is left to move the content of the range to.
    #[error("no free frame is left to move the content of the range to")]
    NoTargets,
    /// A panic interrupted a change of the zone's free lists.
    #[error("the zone is poisoned: a panic interrupted a change of its free lists")]
    Poisoned,
    /// The budget ran out.
    #[error("the budget ran out before the range was cleared")]
    OutOfTime,
    /// Every range of this size has a frame that cannot be moved.
    #[error("every range of this size has a frame that cannot be moved")]
    NoRange,
}

impl From<CaptureError> for ContigError {
    fn from(error: CaptureError) -> Self {
        match error {
            CaptureError::Limit => Self::Limit,
            CaptureError::Poisoned => Self::Poisoned,
            CaptureError::NoTargets => Self::NoTargets,
            CaptureError::OutOfTime => Self::OutOfTime,
            CaptureError::Busy(pfn) => Self::Busy { pfn },
            CaptureError::Unmovable(pfn) => Self::Unmovable { pfn },
        }
    }
}
