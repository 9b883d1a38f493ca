//! What can go wrong between a page and its blob.

use thiserror::Error;

use crate::LevelError;

/// Why a page was not compressed or not read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// The codec refused to compress.
    #[error("{algorithm} cannot compress the page")]
    Compress {
        /// The codec.
        algorithm: &'static str,
    },
    /// The blob is not what the codec wrote.
    #[error("{algorithm} cannot make a page of this blob")]
    Decompress {
        /// The codec.
        algorithm: &'static str,
    },
    /// The blob decodes, but not to a page.
    #[error("the {algorithm} blob holds {len} bytes, not a page")]
    Length {
        /// The codec.
        algorithm: &'static str,
        /// Bytes it decoded to.
        len: usize,
    },
}

/// Why there is no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StreamError {
    /// The codec has no such level.
    #[error(transparent)]
    Level(#[from] LevelError),
    /// There is no memory for the codec's contexts.
    #[error("no memory for a context of {algorithm}")]
    Memory {
        /// The codec.
        algorithm: &'static str,
    },
    /// The codec failed on the trial page.
    #[error("the codec failed its trial: {0}")]
    SelfTest(#[from] CodecError),
}
