//! lz4 and lz4hc: two encoders of one format.
//!
//! The library keeps the state of the fast encoder (16 KiB) once per thread and resets it without
//! clearing it: on incompressible data that saves a third of a page's time. The state of lz4hc
//! (256 KiB) belongs to the stream, because a server may have many more threads than streams.

use lzzzz::lz4_hc::Compressor;

use crate::codec::check_decoded_len;
use crate::{Codec, CodecError, Page, StreamError};

const _: () = assert!(lzzzz::lz4::max_compressed_size(crate::PAGE_SIZE) <= crate::COMPRESS_BOUND);

/// The memory of one compressor: LZ4_streamHC_t and the copy of the dictionary. Units: bytes.
const LZ4HC_STATE_SIZE: usize = 262_200 + (64 << 10);

pub(crate) struct Lz4 {
    name: &'static str,
    /// For lz4 the acceleration.
    level: i32,
    /// The state of lz4hc; `None` for lz4. The library keeps the last 64 KiB as a dictionary for
    /// the next block; the state is reset before each page, so that each page decodes alone.
    high: Option<Compressor<'static>>,
}

impl Lz4 {
    pub(crate) fn fast(acceleration: i32) -> Self {
        Self { name: "lz4", level: acceleration, high: None }
    }

    pub(crate) fn high(level: i32) -> Result<Self, StreamError> {
        let name = "lz4hc";
        let high = Compressor::new().map_err(|_| StreamError::Memory { algorithm: name })?;
        Ok(Self { name, level, high: Some(high) })
    }
}

impl Codec for Lz4 {
    fn compress(&mut self, page: &Page, out: &mut [u8]) -> Result<usize, CodecError> {
        let compressed = match &mut self.high {
            None => lzzzz::lz4::compress(page, out, self.level),
            Some(state) => {
                // No dictionary: the library resets the state without clearing it.
                state.attach_dict(None, self.level);
                state.next(page, out)
            }
        };
        compressed.map_err(|_| CodecError::Compress { algorithm: self.name })
    }

    fn decompress(&mut self, blob: &[u8], page: &mut Page) -> Result<(), CodecError> {
        let failed = |_| CodecError::Decompress { algorithm: self.name };
        let len = lzzzz::lz4::decompress(blob, page).map_err(failed)?;
        check_decoded_len(self.name, len)
    }

    fn memory(&self) -> usize {
        self.high.as_ref().map_or(0, |_| LZ4HC_STATE_SIZE)
    }
}
