//! Which pages become hot.
//!
//! - A page a part of which is written. Each such write to a stored page costs a decompression and a compression; to a hot one, a copy. If the cache
//!   is full the oldest page has to be compressed for it, which is done as long as the cache is hit often enough ([`super::admission`]).
//! - A page that is read, if it was read before in a short time and has to be decompressed each time. "Short" is as long as no other page took its
//!   place in a table of the last few thousand that were decompressed for a reader. Only while the cache has room: compressing another page
//!   for it costs more than the reader saves.
//!
//! A page that is overwritten as a whole is not made hot by that: it costs one compression, now or later. If it is hot it stays so.

use sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Pages remembered, at most.
const TABLE_SIZE: usize = if cfg!(loom) { 1 } else { 4096 };

/// The pages decompressed for readers not long ago.
#[derive(Debug)]
pub(crate) struct Doorkeeper {
    /// A slot's number plus one, at the place its number hashes to. A later slot takes the place.
    table: Box<[AtomicU32]>,
}

impl Doorkeeper {
    pub(crate) fn new() -> Self {
        Self { table: (0..TABLE_SIZE).map(|_| AtomicU32::new(0)).collect() }
    }

    /// Notes that the slot's page was decompressed for a reader. Whether it had been before, not long ago.
    pub(crate) fn seen_before(&self, slot: usize) -> bool {
        // A device has fewer than 2^32 - 1 pages. Multiplicative hashing: neighbours, and pages a power of two apart, get different places.
        let tag = slot as u32 + 1;
        let index = (tag.wrapping_mul(0x9e37_79b9) >> 20) as usize % TABLE_SIZE;
        // Relaxed: a hint.
        self.table[index].swap(tag, Relaxed) == tag
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.table)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn the_second_look_in_a_short_time_counts() {
        let doorkeeper = Doorkeeper::new();
        assert!((0..64).all(|slot| !doorkeeper.seen_before(slot)));
        assert!((0..64).all(|slot| doorkeeper.seen_before(slot)));
        // Long after: others have taken the places.
        (1000..101_000).for_each(|slot| {
            let _ = doorkeeper.seen_before(slot);
        });
        assert!((0..64).all(|slot| !doorkeeper.seen_before(slot)));
    }
}
