//! The [`Codec`] trait.

use crate::{CodecError, Page};

/// A compressor and decompressor of single pages, with its contexts.
///
/// Not `Sync`: one thread at a time uses a codec, by `&mut`.
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
    /// unspecified then. A codec without a checksum may also decode damaged bytes to a wrong
    /// page.
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
