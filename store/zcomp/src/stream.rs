//! What one thread at a time compresses with.

use crate::lz4::{Lz4, Lz4hc};
use crate::zstd::Zstd;
use crate::{Algorithm, COMPRESS_BOUND, Codec, CodecError, PAGE_SIZE, Page, StreamError};

/// A codec with its contexts, and the buffer its blobs come out in.
///
/// Everything is allocated by [`Stream::new`], which puts a trial page through both directions; calls allocate nothing. The one exception is the state of
/// lz4 (not lz4hc), 16 KiB that belong to the thread and are made by its first call.
pub struct Stream {
    codec: Box<dyn Codec>,
    scratch: Box<[u8; COMPRESS_BOUND]>,
}

impl Stream {
    /// A stream of this algorithm.
    ///
    /// # Errors
    /// [`StreamError`] when the level is none of the codec's, or there is no memory for its contexts.
    pub fn new(algorithm: Algorithm) -> Result<Self, StreamError> {
        Self::with_codec(match algorithm.checked()? {
            Algorithm::Lz4 { acceleration } => Box::new(Lz4 { acceleration }),
            Algorithm::Lz4hc { level } => Box::new(Lz4hc::new(level)?),
            Algorithm::Zstd { level } => Box::new(Zstd::new(level)?),
        })
    }

    /// A stream of any codec, e.g. one that fails on purpose.
    ///
    /// # Errors
    /// [`StreamError::SelfTest`] when the codec fails on the trial page.
    pub fn with_codec(codec: Box<dyn Codec>) -> Result<Self, StreamError> {
        let mut stream = Self { codec, scratch: Box::new([0; COMPRESS_BOUND]) };
        // Compressible, but not so much that a codec could do without its tables.
        let trial: Page = std::array::from_fn(|at| ((at * at) >> 5) as u8);
        let blob = stream.compress(&trial)?.to_vec();
        stream.decompress(&blob, &mut [0; PAGE_SIZE])?;
        Ok(stream)
    }

    /// Compresses a page into the stream's buffer, where the blob stays until the next call.
    ///
    /// A blob may be longer than the page: whether it is worth keeping is for the store to decide.
    ///
    /// # Errors
    /// [`CodecError::Compress`]; the stream stays usable.
    pub fn compress(&mut self, page: &Page) -> Result<&[u8], CodecError> {
        let len = self.codec.compress(page, &mut self.scratch[..])?;
        self.scratch.get(..len).ok_or(CodecError::Compress { algorithm: "foreign codec" })
    }

    /// Memory the stream holds. Units: bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.scratch) + self.codec.memory()
    }

    /// Makes the page that `blob` was made of.
    ///
    /// # Errors
    /// [`CodecError::Decompress`] or [`CodecError::Length`] when `blob` is damaged; `page` is then undefined, the stream stays usable.
    pub fn decompress(&mut self, blob: &[u8], page: &mut Page) -> Result<(), CodecError> {
        self.codec.decompress(blob, page)
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream(..)")
    }
}
