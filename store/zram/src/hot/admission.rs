//! The rules for which pages become hot.
//!
//! - A page of which a part is written. Such a write to a stored page costs a decompression and a
//!   compression; to a hot page, a copy. If the cache is full the oldest page is evicted, as long
//!   as the cache has enough hits ([`AdmissionPolicy`]).
//! - A page that is read twice in a short time and must be decompressed each time ([`Doorkeeper`]).
//!   The cache must have a free frame: an eviction costs more than the reader saves.
//! - Not a page that is overwritten as a whole: it costs one compression, now or later.

use sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// The most pages that the doorkeeper remembers.
const TABLE_SIZE: usize = if cfg!(loom) { 1 } else { 4096 };
/// The pages that ask for admission between two checks of the hits.
const WINDOW: u64 = 256;
/// The pages per hit up to which evictions are worthwhile.
const MAX_PAGES_PER_HIT: u64 = 6;
/// While hits are fewer, one page in this many is admitted. It is odd: a page written in eight
/// parts must not always be admitted at the same part.
const PROBE_INTERVAL: u64 = 17;

/// The pages that were decompressed for readers recently.
#[derive(Debug)]
pub(crate) struct Doorkeeper {
    /// The slot number plus one, at the index that it hashes to. A later slot replaces it.
    table: Box<[AtomicU32]>,
}

impl Doorkeeper {
    pub(crate) fn new() -> Self {
        Self { table: (0..TABLE_SIZE).map(|_| AtomicU32::new(0)).collect() }
    }

    /// Records that the slot's page was decompressed for a reader. Returns whether it was already.
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

/// Whether to evict the oldest page for a new one. Relaxed throughout: hints.
///
/// For a workload that seldom accesses a page again, a full cache only delays the same compression.
/// A hit saves a decompression and a compression, which is worth several evictions. While hits are
/// fewer than that, the cache admits few pages: enough to notice when the workload has changed.
#[derive(Debug, Default)]
pub(crate) struct AdmissionPolicy {
    asked: AtomicU64,
    /// The hits at the end of the last window.
    hits: AtomicU64,
    /// Whether the last window had too few hits.
    wasteful: AtomicBool,
}

impl AdmissionPolicy {
    /// Returns whether to evict the oldest page for another one. `hits` returns the total of hits.
    pub(crate) fn admit(&self, hits: impl FnOnce() -> u64) -> bool {
        let asked = self.asked.fetch_add(1, Relaxed);
        if asked % WINDOW == WINDOW - 1 {
            let hits = hits();
            let lately = hits.saturating_sub(self.hits.swap(hits, Relaxed));
            self.wasteful.store(lately * MAX_PAGES_PER_HIT < WINDOW, Relaxed);
        }
        !self.wasteful.load(Relaxed) || asked.is_multiple_of(PROBE_INTERVAL)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    /// Returns how many pages of so many windows are admitted with `hits` hits per window.
    fn admitted(policy: &AdmissionPolicy, total: &mut u64, windows: u64, hits: u64) -> u64 {
        let mut admitted = 0;
        for _ in 0..windows {
            *total += hits;
            admitted += (0..WINDOW).filter(|_| policy.admit(|| *total)).count() as u64;
        }
        admitted
    }

    #[test]
    fn few_pages_are_admitted_while_hits_are_rare() {
        let (policy, mut hits) = (AdmissionPolicy::default(), 0);
        assert_eq!(admitted(&policy, &mut hits, 4, WINDOW), 4 * WINDOW);
        // Fewer hits show at the end of a window.
        let enough = WINDOW.div_ceil(MAX_PAGES_PER_HIT);
        admitted(&policy, &mut hits, 1, enough - 1);
        let seldom = admitted(&policy, &mut hits, 4, enough - 1);
        assert!((1..=4 * WINDOW / PROBE_INTERVAL + 1).contains(&seldom), "{seldom} pages");
        admitted(&policy, &mut hits, 1, enough);
        assert_eq!(admitted(&policy, &mut hits, 4, enough), 4 * WINDOW);
    }

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
