//! The content of pages: it follows from a page's number, its kind and its seed, so no copy is
//! kept.

use fastrand::Rng;
use testkit::PAGE_SIZE;

/// A kind of content, which determines how a page is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Incompressible: stored raw in its own frame.
    Raw,
    /// One word of four bytes, repeated: takes no frame.
    Same,
    /// One word of eight bytes, repeated: takes a small part of a frame.
    Pattern,
    /// Compressible to a third of a frame.
    Compressible,
}

/// The content of a page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    pub(crate) kind: Kind,
    /// Different for each write.
    pub(crate) seed: u64,
    /// Whether [`MARK`] was written over a part of the page.
    pub(crate) is_marked: bool,
}

/// Offset of [`MARK`]. Units: bytes.
pub(crate) const MARK_AT: usize = 512;
/// Bytes written over a part of a page, so that it becomes hot.
pub(crate) const MARK: [u8; 64] = [b'#'; 64];

impl Content {
    /// Creates the content of a page without a mark.
    pub(crate) fn new(kind: Kind, seed: u64) -> Self {
        Self { kind, seed, is_marked: false }
    }

    /// Writes the content to `page`.
    pub(crate) fn fill(self, page: &mut [u8; PAGE_SIZE]) {
        let mut rng = Rng::with_seed(self.seed);
        let half = u64::from(rng.u32(..));
        let word = match self.kind {
            Kind::Same => half | (half << 32),
            _ => rng.u64(..),
        };
        let word = word.to_le_bytes();
        let random = match self.kind {
            Kind::Raw => PAGE_SIZE,
            Kind::Same | Kind::Pattern => 0,
            Kind::Compressible => PAGE_SIZE / 24 * 8,
        };
        let (noise, words) = page.split_at_mut(random);
        rng.fill(noise);
        words.as_chunks_mut().0.fill(word);
        if self.is_marked {
            page[MARK_AT..][..MARK.len()].copy_from_slice(&MARK);
        }
    }
}
