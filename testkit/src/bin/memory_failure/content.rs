//! What pages hold: it follows from a page's number, its kind and how often it was written, so no copy is kept.

use testkit::{PAGE_SIZE, Rng};

/// How a page is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Does not compress: one frame of its own.
    Raw,
    /// Four bytes, repeated: no frame.
    Same,
    /// Eight bytes, repeated: very little of a frame.
    Pattern,
    /// A third of a frame.
    Compressible,
}

/// What a page was written with.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    pub kind: Kind,
    /// Another for each write.
    pub seed: u64,
    /// [`MARK`] was written over a part of it.
    pub is_marked: bool,
}

/// Where [`MARK`] goes.
pub const MARK_AT: usize = 512;
/// What is written over a part of a page, so that it becomes hot.
pub const MARK: [u8; 64] = [b'#'; 64];

impl Content {
    pub fn new(kind: Kind, seed: u64) -> Self {
        Self { kind, seed, is_marked: false }
    }

    /// The page.
    pub fn fill(self, page: &mut [u8; PAGE_SIZE]) {
        let mut rng = Rng::new(self.seed);
        let half = rng.bits() & 0xFFFF_FFFF;
        let word = match self.kind {
            Kind::Same => half | (half << 32),
            _ => rng.bits(),
        };
        let word = word.to_le_bytes();
        let random = match self.kind {
            Kind::Raw => PAGE_SIZE / 8,
            Kind::Same | Kind::Pattern => 0,
            Kind::Compressible => PAGE_SIZE / 24,
        };
        for (index, bytes) in page.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *bytes = if index < random { rng.bits().to_le_bytes() } else { word };
        }
        if self.is_marked {
            page[MARK_AT..][..MARK.len()].copy_from_slice(&MARK);
        }
    }
}
