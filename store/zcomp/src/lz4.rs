//! lz4 and lz4hc: two encoders, one format.
//!
//! The library keeps the encoder's state (16 KiB, lz4hc 256 KiB) once a thread and resets it without clearing it, which on a page is
//! a third of the time for incompressible data.

use crate::codec::whole;
use crate::{Codec, CodecError, Page};

const _: () = assert!(lzzzz::lz4::max_compressed_size(crate::PAGE_SIZE) <= crate::BOUND);

pub(crate) struct Lz4 {
    pub(crate) acceleration: i32,
}

impl Codec for Lz4 {
    fn compress(&mut self, page: &Page, out: &mut [u8]) -> Result<usize, CodecError> {
        lzzzz::lz4::compress(page, out, self.acceleration).map_err(|_| CodecError::Compress { algorithm: "lz4" })
    }

    fn decompress(&mut self, blob: &[u8], page: &mut Page) -> Result<(), CodecError> {
        decompress("lz4", blob, page)
    }
}

pub(crate) struct Lz4hc {
    pub(crate) level: i32,
}

impl Codec for Lz4hc {
    fn compress(&mut self, page: &Page, out: &mut [u8]) -> Result<usize, CodecError> {
        lzzzz::lz4_hc::compress(page, out, self.level).map_err(|_| CodecError::Compress { algorithm: "lz4hc" })
    }

    fn decompress(&mut self, blob: &[u8], page: &mut Page) -> Result<(), CodecError> {
        decompress("lz4hc", blob, page)
    }
}

fn decompress(algorithm: &'static str, blob: &[u8], page: &mut Page) -> Result<(), CodecError> {
    let len = lzzzz::lz4::decompress(blob, page).map_err(|_| CodecError::Decompress { algorithm })?;
    whole(algorithm, len)
}
