//! Errors of the zone.

use thiserror::Error;

use crate::units::{FrameCount, Pfn};
use crate::zone_config::CmaRegion;

/// The reason why a zone could not be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ZoneError {
    /// A capacity of zero, or of more frames than frame numbers can name.
    #[error("the capacity is {capacity} but must be 1 to {max}")]
    Capacity {
        /// Frames requested.
        capacity: FrameCount,
        /// The largest capacity.
        max: FrameCount,
    },
    /// A CMA region that is not made of whole pageblocks, or not inside the zone.
    #[error(
        "the CMA region of {} from {} on must be whole pageblocks inside the zone",
        region.frames, region.first
    )]
    Region {
        /// The region requested.
        region: CmaRegion,
    },
    /// The OS refused an address range for the frames or for their tables.
    #[error("the OS refused address space for {capacity}: {source}")]
    Reserve {
        /// Frames requested.
        capacity: FrameCount,
        /// The request that was refused.
        source: sys::MapError,
    },
}

/// The reason why no frame was allocated. The zone is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AllocError {
    /// Fewer frames than requested are left below the zone's limits.
    #[error("the request exceeds the zone's limit")]
    Limit,
    /// The arena has no free block of the requested size.
    #[error("the arena has no free block of this size")]
    NoFrames,
    /// A panic interrupted a change of the free lists. Nothing is allocated from them any more.
    #[error("the zone is poisoned: a panic interrupted a change of its free lists")]
    Poisoned,
}

/// The reason why a reference could not be put: it was put before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PutError {
    /// The frame is not in use.
    #[error("{pfn} is freed twice")]
    NotInUse {
        /// The frame.
        pfn: Pfn,
    },
    /// The last reference went while the frame was locked or isolated.
    #[error("{pfn} is freed while its page lock is held or it is isolated")]
    Busy {
        /// The frame.
        pfn: Pfn,
    },
    /// The last reference went while the frame still had an owner that migration may call.
    #[error("{pfn} is freed while it still has an owner that can move it")]
    Movable {
        /// The frame.
        pfn: Pfn,
    },
}
