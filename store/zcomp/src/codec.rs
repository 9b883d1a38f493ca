//! What a codec is.

use crate::{CodecError, Page};

/// One page to a blob and back, with whatever contexts that needs.
///
/// Not `Sync`: one thread at a time, by `&mut`.
pub trait Codec: Send {
    /// Compresses `page` to the front of `out`, which holds [`crate::COMPRESS_BOUND`] bytes, and tells the blob's length.
    ///
    /// # Errors
    /// [`CodecError::Compress`]; what `out` then holds means nothing.
    fn compress(&mut self, page: &Page, out: &mut [u8]) -> Result<usize, CodecError>;

    /// Makes the page that `blob` was made of.
    ///
    /// # Errors
    /// [`CodecError::Decompress`] or [`CodecError::Length`] for any bytes that are no blob; `page` is then undefined. A codec without a checksum may
    /// also take damaged bytes for another page.
    fn decompress(&mut self, blob: &[u8], page: &mut Page) -> Result<(), CodecError>;

    /// Memory of the contexts, which live as long as the codec. Units: bytes.
    fn memory(&self) -> usize {
        0
    }
}

/// The length check at the end of every decoder.
pub(crate) fn check_decoded_len(algorithm: &'static str, len: usize) -> Result<(), CodecError> {
    if len == crate::PAGE_SIZE { Ok(()) } else { Err(CodecError::Length { algorithm, len }) }
}
