//! Errors of the zone.

use thiserror::Error;

use crate::units::{FrameCount, Pfn};
use crate::zone_config::CmaRegion;

/// Why a zone could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ZoneError {
    /// A capacity of no frames, or of more than frame numbers can name.
    #[error("{capacity} is no usable capacity: 1 to {max} are")]
    Capacity {
        /// Frames asked for.
        capacity: FrameCount,
        /// The most there can be.
        max: FrameCount,
    },
    /// A region set aside that is not made of whole pageblocks, or not inside of the zone.
    #[error("{} from {} on are no whole pageblocks of the zone", region.frames, region.first)]
    Region {
        /// What was asked for.
        region: CmaRegion,
    },
    /// The OS refused an address range, for the frames or for their tables.
    #[error("no address space for {capacity}: {source}")]
    Reserve {
        /// Frames asked for.
        capacity: FrameCount,
        /// What was refused.
        source: sys::MapError,
    },
}

/// Why no frame was handed out. The zone is as it was before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AllocError {
    /// As many frames are in use as the zone's limit allows, or fewer are left below it than were asked for.
    #[error("the zone's limit is reached")]
    Limit,
    /// No free block of the size asked for is left in the arena.
    #[error("the arena has no free block of this size")]
    NoFrames,
    /// A panic cut short a change of the free lists. Nothing is handed out of them any more.
    #[error("the zone is out of order: a panic cut short a change of its free lists")]
    Poisoned,
}

/// Why a reference could not be given back: somebody else already did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PutError {
    /// The frame is not in use.
    #[error("{pfn} is freed twice")]
    NotInUse {
        /// The frame.
        pfn: Pfn,
    },
    /// The last reference went while the frame was locked or isolated.
    #[error("{pfn} is freed while somebody holds its page lock or has isolated it")]
    Busy {
        /// The frame.
        pfn: Pfn,
    },
    /// The last reference went while an owner could still be asked to move the frame.
    #[error("{pfn} is freed while its owner still has it as movable")]
    Movable {
        /// The frame.
        pfn: Pfn,
    },
}
