//! Errors of the zone.

use thiserror::Error;

use crate::units::{FrameCount, Order, Pfn};

/// A range of frames that is made of whole pageblocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CmaRegion {
    /// The first frame.
    pub first: Pfn,
    /// The number of frames.
    pub frames: FrameCount,
}

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
        .0.frames, .0.first
    )]
    Region(CmaRegion),
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
    #[error("{0} is freed twice")]
    NotInUse(Pfn),
    /// The last reference went while the frame was locked or isolated.
    #[error("{0} is freed while its page lock is held or it is isolated")]
    Busy(Pfn),
    /// The last reference went while the frame still had an owner that migration may call.
    #[error("{0} is freed while it still has an owner that can move it")]
    Movable(Pfn),
}

/// An inconsistency in a zone: a bug in this crate, or a stray write from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CheckError {
    /// The descriptor of a frame has a state that is impossible there.
    #[error("{pfn} has the impossible state {state:#010x}")]
    State {
        /// The frame.
        pfn: Pfn,
        /// Its state word.
        state: u32,
    },
    /// The free map and the descriptor of a frame disagree.
    #[error("{0}: the free map and the descriptor disagree")]
    FreeMap(Pfn),
    /// Two free halves of one block were not merged.
    #[error("{0} and its buddy are free and not merged")]
    Unmerged(Pfn),
    /// The state word of a pageblock, or a set it is in, does not fit its frames.
    #[error("pageblock {0}: its state does not fit its frames")]
    Pageblock(u32),
    /// A buddy list is broken, or holds a block that does not belong there.
    #[error("the list of free blocks of {order} of type {list_kind} is broken at {pfn}")]
    List {
        /// The name of the migrate type, or of isolation.
        list_kind: &'static str,
        /// The order of the blocks.
        order: Order,
        /// The block at which the walk failed.
        pfn: Pfn,
    },
    /// A panic interrupted a change of the free lists, so they cannot be checked.
    #[error("the zone is poisoned: a panic interrupted a change of its free lists")]
    Poisoned,
    /// A count differs from the sum it stands for.
    #[error("{what} is counted as {counted} but is {found}")]
    Count {
        /// The count.
        what: &'static str,
        /// Its value.
        counted: u64,
        /// The sum that the walk found.
        found: u64,
    },
}
