//! Streams.

use crate::lz4::Lz4;
use crate::zstd::Zstd;
use crate::{Algorithm, COMPRESS_BOUND, Codec, CodecError, PAGE_SIZE, Page, StreamError};

/// A codec with its contexts and the buffer that receives its blobs, used by one thread at a time.
///
/// [`Stream::new`] allocates everything by compressing and decompressing a trial page; later calls
/// allocate nothing, except the state of lz4 (not lz4hc): 16 KiB per thread, at its first call.
pub struct Stream {
    codec: Box<dyn Codec>,
    scratch: Box<[u8; COMPRESS_BOUND]>,
}

impl Stream {
    /// Creates a stream of the algorithm.
    ///
    /// # Errors
    /// [`StreamError`] when the codec does not accept the level, or there is no memory for its
    /// contexts.
    pub fn new(algorithm: Algorithm) -> Result<Self, StreamError> {
        Self::with_codec(match algorithm.checked()? {
            Algorithm::Lz4 { acceleration } => Box::new(Lz4::fast(acceleration)),
            Algorithm::Lz4hc { level } => Box::new(Lz4::high(level)?),
            Algorithm::Zstd { level } => Box::new(Zstd::new(level)?),
        })
    }

    /// Creates a stream of any codec, for example one that fails on purpose.
    ///
    /// # Errors
    /// [`StreamError::SelfTest`] when the codec fails on the trial page.
    pub fn with_codec(codec: Box<dyn Codec>) -> Result<Self, StreamError> {
        let mut stream = Self { codec, scratch: Box::new([0; COMPRESS_BOUND]) };
        // The page is compressible, but not so regular that a codec could skip its tables.
        let trial: Page = std::array::from_fn(|at| ((at * at) >> 5) as u8);
        let blob = stream.compress(&trial)?.to_vec();
        stream.decompress(&blob, &mut [0; PAGE_SIZE])?;
        Ok(stream)
    }

    /// Compresses a page into the stream's buffer. The blob may be longer than the page.
    ///
    /// # Errors
    /// [`CodecError::Compress`]; the stream stays usable.
    pub fn compress(&mut self, page: &Page) -> Result<&[u8], CodecError> {
        let len = self.codec.compress(page, &mut self.scratch[..])?;
        self.scratch.get(..len).ok_or(CodecError::Compress { algorithm: "custom codec" })
    }

    /// Returns the memory that the stream holds. Units: bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.scratch) + self.codec.memory()
    }

    /// Decompresses `blob` into `page`.
    ///
    /// # Errors
    /// [`CodecError::Decompress`] or [`CodecError::Length`] when `blob` is damaged. `page` is
    /// unspecified then; the stream stays usable.
    pub fn decompress(&mut self, blob: &[u8], page: &mut Page) -> Result<(), CodecError> {
        self.codec.decompress(blob, page)
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream(..)")
    }
}
