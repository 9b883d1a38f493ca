//! Errors of the pool's calls.

use thiserror::Error;

/// Error of an allocation. The pool is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AllocError {
    /// The length is not 1 to 4096 bytes.
    #[error("invalid object length {len}: allowed are 1 to 4096 bytes")]
    Size {
        /// Requested length. Units: bytes.
        len: usize,
    },
    /// The zone's limit is reached.
    #[error("the zone's memory limit is reached")]
    Limit,
    /// The arena has no free frame.
    #[error("the zone's arena has no free frame")]
    NoFrames,
    /// All handle indices or all chain numbers are taken.
    #[error("the pool has no free handle index or zspage number")]
    Numbers,
    /// The metadata of the pool or of its zone was found damaged earlier and cannot be trusted.
    #[error("the pool is poisoned: its metadata is damaged")]
    Poisoned,
}

/// Error of an access to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AccessError {
    /// The object was freed, or the bits never were a handle.
    #[error("the handle is stale")]
    Stale,
    /// The object's header does not name its handle: a stray write. Other objects are not affected.
    #[error("the object is damaged: its header or frames do not match its handle")]
    Damaged,
    /// The object's memory has failed and its content is lost. Other objects are not affected.
    /// This object can still be freed or overwritten.
    #[error("the object's memory has failed")]
    MemoryFailure,
    /// The object's zspage already has two million readers.
    #[error("the object's zspage has too many readers")]
    TooManyReaders,
    /// The pool's metadata was found damaged earlier and cannot be trusted.
    #[error("the pool is poisoned: its metadata is damaged")]
    Poisoned,
}

/// Error of an overwrite. The object's content is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WriteError {
    /// The new content has another length. The length of an object is fixed.
    #[error("invalid length {given}: the object has {expected} bytes")]
    Length {
        /// Length of the object. Units: bytes.
        expected: usize,
        /// Length of the new content. Units: bytes.
        given: usize,
    },
    /// The object cannot be accessed.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The object is being read, and its new content could not be allocated out of place.
    #[error(transparent)]
    Alloc(#[from] AllocError),
}

/// Error of a pool's creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PoolError {
    /// The chain length is not 1 to 16 frames.
    #[error("invalid zspage length {chain}: allowed are 1 to 16 frames")]
    Chain {
        /// Requested length. Units: frames.
        chain: u8,
    },
    /// The address space for the tables cannot be reserved.
    #[error(transparent)]
    Reserve(#[from] sys::MapError),
    /// The zone's memory limit leaves no room for the pool's fixed tables.
    #[error(transparent)]
    Memory(#[from] frames::AllocError),
    /// The zone has no free owner number.
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
            frames::CreateError::Exhausted => Self::Numbers,
            frames::CreateError::Refused(error) => error.into(),
        }
    }
}
