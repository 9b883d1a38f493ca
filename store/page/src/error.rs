//! The errors of storing and loading a page.

use thiserror::Error;
use zcomp::CodecError;
use zsmalloc::{AccessError, AllocError};

/// Why a page was not stored. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The codec failed to compress the page.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The pool could not allocate the object.
    #[error(transparent)]
    Alloc(#[from] AllocError),
}

/// Why a page was not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LoadError {
    /// The page was overwritten or discarded since the caller looked it up: look it up again.
    #[error("the slot entry is stale: the page was overwritten or discarded")]
    Stale,
    /// The object's zspage has as many readers as can be counted: try again.
    #[error("the object of the page has too many concurrent readers; retry the read")]
    TooManyReaders,
    /// The codec failed to decompress the object.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The object does not have the length that its form requires.
    #[error("an object of {len} bytes does not have the length that its slot entry requires")]
    Length {
        /// The length of the object in bytes.
        len: usize,
    },
    /// The header of the object was overwritten.
    #[error("the object of the page is damaged")]
    DamagedObject,
    /// The memory of the page's object has failed: its content is lost.
    #[error("the memory of the page has failed")]
    MemoryFailure,
    /// The pool is poisoned: its metadata is damaged.
    #[error("the pool is poisoned: its metadata is damaged")]
    Poisoned,
}

impl From<AccessError> for LoadError {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Stale => Self::Stale,
            AccessError::Damaged => Self::DamagedObject,
            AccessError::MemoryFailure => Self::MemoryFailure,
            AccessError::TooManyReaders => Self::TooManyReaders,
            AccessError::Poisoned => Self::Poisoned,
        }
    }
}
