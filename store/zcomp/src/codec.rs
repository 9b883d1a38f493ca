//! The [`Codec`] trait and its errors.

use thiserror::Error;

use crate::{LevelError, Page};

/// A compressor and decompressor of single pages, with its contexts. One thread at a time uses it.
pub trait Codec: Send {
    /// Compresses `page` to the front of `out`, which holds [`crate::COMPRESS_BOUND`] bytes, and
    /// returns the length of the blob in bytes.
    ///
    /// # Errors
    /// [`CodecError::Compress`]; the content of `out` is unspecified then.
    fn compress(&mut self, page: &Page, out: &mut [u8]) -> Result<usize, CodecError>;

    /// Decompresses `blob` into `page`.
    ///
    /// # Errors
    /// [`CodecError::Decompress`] or [`CodecError::Length`] when `blob` is not valid; `page` is
    /// unspecified then. A codec without a checksum may also decode damaged bytes to a wrong page.
    fn decompress(&mut self, blob: &[u8], page: &mut Page) -> Result<(), CodecError>;

    /// Returns the memory of the contexts, which live as long as the codec. Units: bytes.
    fn memory(&self) -> usize {
        0
    }
}

/// Checks that a decoder produced exactly one page.
pub(crate) fn check_decoded_len(algorithm: &'static str, len: usize) -> Result<(), CodecError> {
    if len == crate::PAGE_SIZE { Ok(()) } else { Err(CodecError::Length { algorithm, len }) }
}

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
