//! The bare codec: the function that the store calls, without a store.

use std::hint::black_box;

use memmap2::{Advice, MmapMut};
use testkit::{PAGE_SIZE, Page};
use zcomp::{Algorithm, Stream};

/// Compresses these pages in this order and drops the output.
pub(crate) fn compress<'a>(
    stream: &mut Stream,
    pages: impl Iterator<Item = &'a Page>,
) -> Result<(), zcomp::CodecError> {
    for page in pages {
        black_box(stream.compress(black_box(page))?);
    }
    Ok(())
}

/// Compressed pages end to end in one mapping with huge pages, as in the arena, so that both
/// sides have the same TLB costs.
pub(crate) struct Blobs {
    bytes: MmapMut,
    spans: Vec<(u32, u32)>,
}

impl Blobs {
    /// Compresses every page once.
    pub(crate) fn new(
        algorithm: Algorithm,
        pages: &[Page],
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let mut bytes = MmapMut::map_anon(pages.len() * (PAGE_SIZE + 64))?;
        bytes.advise(Advice::HugePage)?;
        let mut stream = Stream::new(algorithm)?;
        let (mut spans, mut end) = (Vec::with_capacity(pages.len()), 0);
        for page in pages {
            let blob = stream.compress(page)?;
            bytes[end..end + blob.len()].copy_from_slice(blob);
            spans.push((u32::try_from(end)?, u32::try_from(blob.len())?));
            end += blob.len();
        }
        Ok(Self { bytes, spans })
    }

    /// Decompresses the blobs in this order into one page.
    pub(crate) fn decompress(
        &self,
        stream: &mut Stream,
        order: &[u32],
    ) -> Result<(), zcomp::CodecError> {
        let mut page = Page::zeroed();
        for &index in order {
            let (start, len) = self.spans[index as usize];
            stream.decompress(&self.bytes[start as usize..(start + len) as usize], &mut page)?;
            black_box(&page);
        }
        Ok(())
    }
}

/// Returns the compressed length of every page, computed outside the store. Units: bytes.
pub(crate) fn lengths(
    algorithm: Algorithm,
    pages: &[Page],
) -> Result<Vec<u64>, Box<dyn std::error::Error>> {
    let mut stream = Stream::new(algorithm)?;
    let mut lengths = Vec::with_capacity(pages.len());
    for page in pages {
        lengths.push(stream.compress(page)?.len() as u64);
    }
    Ok(lengths)
}
