//! The rules for which pages become hot.
//!
//! - A page of which a part is written. Such a write to a stored page costs a decompression and a
//!   compression; to a hot page, a copy. If the cache is full the oldest page is evicted, as long
//!   as the cache has enough hits ([`super::admission`]).
//! - A page that is read twice in a short time and must be decompressed each time. The time is
//!   short if the page is still in a table of the last few thousand pages decompressed for
//!   readers. The cache must have a free frame: an eviction costs more than the reader saves.
//!
//! Overwriting a whole page does not make it hot: it costs one compression, now or later. A hot
//! page stays hot.

use sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The most pages remembered.
const TABLE_SIZE: usize = if cfg!(loom) { 1 } else { 4096 };

/// The pages that were decompressed for readers recently.
#[derive(Debug)]
pub(crate) struct Doorkeeper {
    /// The slot number plus one, at the index that it hashes to. A later slot replaces it.
    table: Box<[AtomicU32]>,
}

impl Doorkeeper {
    /// Creates an empty table.
    pub(crate) fn new() -> Self {
        Self { table: (0..TABLE_SIZE).map(|_| AtomicU32::new(0)).collect() }
    }

    /// Records that the slot's page was decompressed for a reader. Returns whether it was
    /// recorded already.
    pub(crate) fn seen_before(&self, slot: usize) -> bool {
        // A device has fewer than 2^32 - 1 pages. Multiplicative hashing spreads adjacent slots
        // and slots a power of two apart.
        let tag = slot as u32 + 1;
        let index = (tag.wrapping_mul(0x9e37_79b9) >> 20) as usize % TABLE_SIZE;
        // Relaxed: a hint.
        self.table[index].swap(tag, Relaxed) == tag
    }

    /// Returns the memory of the table. Units: bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.table)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_page_seen_twice_in_a_short_time_is_recognized() {
        let doorkeeper = Doorkeeper::new();
        assert!((0..64).all(|slot| !doorkeeper.seen_before(slot)));
        assert!((0..64).all(|slot| doorkeeper.seen_before(slot)));
        // Much later: other slots have replaced them.
        (1000..101_000).for_each(|slot| {
            let _ = doorkeeper.seen_before(slot);
        });
        assert!((0..64).all(|slot| !doorkeeper.seen_before(slot)));
    }
}
