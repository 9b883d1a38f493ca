//! Why a page was not stored or not read back.

use thiserror::Error;
use zcomp::CodecError;
use zsmalloc::{AccessError, AllocError};

/// Why a page was not stored. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The codec refused.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The pool has no room.
    #[error(transparent)]
    Alloc(#[from] AllocError),
}

/// Why a page was not read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LoadError {
    /// The page was overwritten or discarded since the word was looked up: look again.
    #[error("the page's word is out of date")]
    Stale,
    /// As many readers as can be counted are inside the object's zspage: try again.
    #[error("too many readers are at the page's object")]
    TooManyReaders,
    /// The codec makes no page of the object.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The object is not as long as its form has it.
    #[error("an object of {len} bytes cannot be what its page's word says")]
    Length {
        /// Its length in bytes.
        len: usize,
    },
    /// The object's header was overwritten.
    #[error("the page's object is damaged")]
    DamagedObject,
    /// Memory that the page's object lies in has failed: its content is lost.
    #[error("the memory of the page has failed")]
    MemoryFailure,
    /// The page is not in the pool: the owner of the word keeps it.
    #[error("the page is not in the pool")]
    NotInPool,
    /// The word says nothing that could have been written.
    #[error("the page's word is damaged")]
    InvalidEntry,
    /// The pool is out of order.
    #[error("the pool is out of order")]
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
