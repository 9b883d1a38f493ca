//! What can go wrong, call by call.

use thiserror::Error;

/// Why an object could not be allocated. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AllocError {
    /// Objects have 1 to 4096 bytes.
    #[error("an object of {len} bytes cannot be stored: 1 to 4096 are possible")]
    Size {
        /// Bytes asked for.
        len: usize,
    },
    /// The zone's limit is reached.
    #[error("the memory limit is reached")]
    Limit,
    /// The arena is used up.
    #[error("the arena has no free frame")]
    NoFrames,
    /// All handle or zspage numbers are taken.
    #[error("the pool has no free number for another object")]
    Numbers,
    /// The metadata of the pool or of its zone was found broken earlier; nothing it says can be trusted.
    #[error("the pool is out of order: its metadata is damaged")]
    Poisoned,
}

/// Why an object could not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AccessError {
    /// The object was freed, or the handle never was one.
    #[error("the handle is stale")]
    Stale,
    /// The bytes before the object do not name its handle: somebody overwrote them. Other objects are not affected.
    #[error("the object is damaged")]
    Damaged,
    /// Memory that the object lies in has failed, and its content is lost. Other objects are not affected; this one can be freed, or overwritten.
    #[error("the memory of the object has failed")]
    MemoryFailure,
    /// Four million readers are inside the object's zspage already.
    #[error("too many readers hold the object's zspage")]
    TooManyReaders,
    /// The pool's metadata was found broken earlier; nothing it says can be trusted.
    #[error("the pool is out of order: its metadata is damaged")]
    Poisoned,
}

/// Why an object could not be overwritten. It holds what it held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WriteError {
    /// An object keeps the length it was allocated with.
    #[error("{given} bytes do not fit an object of {expected}")]
    Length {
        /// The object's length.
        expected: usize,
        /// Bytes offered.
        given: usize,
    },
    /// The object cannot be reached.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The object is being read, and there is no room for its new content beside the old.
    #[error(transparent)]
    Alloc(#[from] AllocError),
}

/// Why a pool could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PoolError {
    /// Zspages have 1 to 16 frames.
    #[error("zspages of {chain} frames are not possible: 1 to 16 are")]
    Chain {
        /// Frames asked for.
        chain: u8,
    },
    /// The address space for the tables cannot be reserved.
    #[error(transparent)]
    Reserve(#[from] sys::MapError),
    /// The zone's memory limit leaves nothing for what every pool needs.
    #[error(transparent)]
    Memory(#[from] frames::AllocError),
    /// The zone has no number for another owner of movable frames.
    #[error(transparent)]
    Owners(#[from] frames::OwnersExhausted),
}

impl From<frames::AllocError> for AllocError {
    fn from(error: frames::AllocError) -> Self {
        match error {
            frames::AllocError::Limit => Self::Limit,
            frames::AllocError::NoFrames => Self::NoFrames,
            frames::AllocError::Poisoned => Self::Poisoned,
        }
    }
}

impl From<frames::CreateError> for AllocError {
    fn from(error: frames::CreateError) -> Self {
        match error {
            frames::CreateError::Numbers => Self::Numbers,
            frames::CreateError::Memory(error) => error.into(),
        }
    }
}
