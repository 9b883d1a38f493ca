//! The errors of compressing and decompressing.

use thiserror::Error;

use crate::LevelError;

/// Why a page was not compressed or not decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// The codec failed to compress.
    #[error("{algorithm} failed to compress the page")]
    Compress {
        /// The name of the codec.
        algorithm: &'static str,
    },
    /// The blob is not valid for the codec.
    #[error("{algorithm} failed to decompress the blob")]
    Decompress {
        /// The name of the codec.
        algorithm: &'static str,
    },
    /// The blob decodes to something other than one page.
    #[error("the {algorithm} blob decodes to {len} bytes: exactly 4096 are allowed")]
    Length {
        /// The name of the codec.
        algorithm: &'static str,
        /// The number of bytes it decodes to.
        len: usize,
    },
}

/// Why a stream could not be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StreamError {
    /// The codec does not accept the level.
    #[error(transparent)]
    Level(#[from] LevelError),
    /// There is no memory for the codec's contexts.
    #[error("no memory for the contexts of {algorithm}")]
    Memory {
        /// The name of the codec.
        algorithm: &'static str,
    },
    /// The codec failed its self-test on a trial page.
    #[error("the codec failed its self-test: {0}")]
    SelfTest(#[from] CodecError),
}
