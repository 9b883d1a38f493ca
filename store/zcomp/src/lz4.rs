//! lz4 and lz4hc: two encoders of one format.
//!
//! The library keeps the state of the fast encoder (16 KiB) once per thread and resets it without
//! clearing it. On a page that saves a third of the time for incompressible data.
//! The state of lz4hc (256 KiB) belongs to the stream, because a server has a thread for each
//! client and may have many more threads than streams.

use lzzzz::lz4_hc::Compressor;

use crate::codec::check_decoded_len;
use crate::{Codec, CodecError, Page, StreamError};

const _: () = assert!(lzzzz::lz4::max_compressed_size(crate::PAGE_SIZE) <= crate::COMPRESS_BOUND);

pub(crate) struct Lz4 {
    pub(crate) acceleration: i32,
}

impl Codec for Lz4 {
    fn compress(&mut self, page: &Page, out: &mut [u8]) -> Result<usize, CodecError> {
        lzzzz::lz4::compress(page, out, self.acceleration)
            .map_err(|_| CodecError::Compress { algorithm: "lz4" })
    }

    fn decompress(&mut self, blob: &[u8], page: &mut Page) -> Result<(), CodecError> {
        decompress("lz4", blob, page)
    }
}

/// The lz4hc codec. The library keeps the last 64 KiB as a dictionary for the next block; the
/// compressor is reset before each page, so that each page decodes alone.
pub(crate) struct Lz4hc {
    level: i32,
    compressor: Compressor<'static>,
}

/// The memory of one compressor: LZ4_streamHC_t and the copy of the dictionary. Units: bytes.
const LZ4HC_STATE_SIZE: usize = 262_200 + (64 << 10);

impl Lz4hc {
    /// Creates the codec with its compressor state.
    pub(crate) fn new(level: i32) -> Result<Self, StreamError> {
        let compressor =
            Compressor::new().map_err(|_| StreamError::Memory { algorithm: "lz4hc" })?;
        Ok(Self { level, compressor })
    }
}

impl Codec for Lz4hc {
    fn compress(&mut self, page: &Page, out: &mut [u8]) -> Result<usize, CodecError> {
        // No dictionary: the library resets the state without clearing it and sets the level.
        self.compressor.attach_dict(None, self.level);
        self.compressor.next(page, out).map_err(|_| CodecError::Compress { algorithm: "lz4hc" })
    }

    fn decompress(&mut self, blob: &[u8], page: &mut Page) -> Result<(), CodecError> {
        decompress("lz4hc", blob, page)
    }

    fn memory(&self) -> usize {
        LZ4HC_STATE_SIZE
    }
}

fn decompress(algorithm: &'static str, blob: &[u8], page: &mut Page) -> Result<(), CodecError> {
    let len =
        lzzzz::lz4::decompress(blob, page).map_err(|_| CodecError::Decompress { algorithm })?;
    check_decoded_len(algorithm, len)
}
