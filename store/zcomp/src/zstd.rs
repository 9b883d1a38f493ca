//! zstd, in frames without magic number, content size, dictionary id and checksum. That leaves 2
//! bytes of header; the saving counts because a page often compresses to a few hundred bytes.

use zstd_safe::{CCtx, CParameter, DCtx, DParameter, FrameFormat};

use crate::codec::check_decoded_len;
use crate::{Codec, CodecError, Page, StreamError};

const NAME: &str = "zstd";

pub(crate) struct Zstd {
    cctx: CCtx<'static>,
    dctx: DCtx<'static>,
}

impl Zstd {
    pub(crate) fn new(level: i32) -> Result<Self, StreamError> {
        let memory = StreamError::Memory { algorithm: NAME };
        let mut cctx = CCtx::try_create().ok_or(memory)?;
        let mut dctx = DCtx::try_create().ok_or(memory)?;
        let parameters = [
            CParameter::CompressionLevel(level),
            CParameter::Format(FrameFormat::Magicless),
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ];
        for parameter in parameters {
            cctx.set_parameter(parameter).map_err(|_| CodecError::Compress { algorithm: NAME })?;
        }
        dctx.set_parameter(DParameter::Format(FrameFormat::Magicless))
            .map_err(|_| CodecError::Decompress { algorithm: NAME })?;
        Ok(Self { cctx, dctx })
    }
}

impl Codec for Zstd {
    fn compress(&mut self, page: &Page, out: &mut [u8]) -> Result<usize, CodecError> {
        self.cctx.compress2(out, page).map_err(|_| CodecError::Compress { algorithm: NAME })
    }

    fn decompress(&mut self, blob: &[u8], page: &mut Page) -> Result<(), CodecError> {
        let len = self
            .dctx
            .decompress(&mut page[..], blob)
            .map_err(|_| CodecError::Decompress { algorithm: NAME })?;
        check_decoded_len(NAME, len)
    }

    fn memory(&self) -> usize {
        self.cctx.sizeof() + self.dctx.sizeof()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_page_can_outgrow_the_output_buffer() {
        assert!(zstd_safe::compress_bound(crate::PAGE_SIZE) <= crate::COMPRESS_BOUND);
    }
}
