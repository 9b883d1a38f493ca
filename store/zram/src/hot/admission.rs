//! The policy of whether to evict the oldest page for a new one.
//!
//! For a workload that seldom accesses a page again, a full cache only delays the same
//! compression. A hit saves a decompression and a compression, which is worth several evictions.
//! While hits are fewer than that, the cache admits few pages: enough to notice when the workload
//! has changed.

use sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The pages that ask for admission between two checks of the hits.
const WINDOW: u64 = 256;

/// The pages per hit up to which evictions are worthwhile.
const MAX_PAGES_PER_HIT: u64 = 6;

/// While hits are fewer, one page in this many is admitted. It is odd: a page written in eight
/// parts must not always be admitted at the same part.
const PROBE_INTERVAL: u64 = 17;

/// The recent use of the cache. Relaxed throughout: hints.
#[derive(Debug)]
pub(crate) struct AdmissionPolicy {
    asked: AtomicU64,
    /// The hits at the end of the last window.
    hits: AtomicU64,
    worthwhile: AtomicBool,
}

impl AdmissionPolicy {
    /// Creates a policy that admits every page until a window has shown too few hits.
    pub(crate) fn new() -> Self {
        Self {
            asked: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            worthwhile: AtomicBool::new(true),
        }
    }

    /// Returns whether to evict the oldest page for another one. `hits` returns the total of
    /// hits.
    pub(crate) fn admit(&self, hits: impl FnOnce() -> u64) -> bool {
        let asked = self.asked.fetch_add(1, Relaxed);
        if asked % WINDOW == WINDOW - 1 {
            let hits = hits();
            let lately = hits.saturating_sub(self.hits.swap(hits, Relaxed));
            self.worthwhile.store(lately * MAX_PAGES_PER_HIT >= WINDOW, Relaxed);
        }
        self.worthwhile.load(Relaxed) || asked.is_multiple_of(PROBE_INTERVAL)
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
        let (policy, mut hits) = (AdmissionPolicy::new(), 0);
        assert_eq!(admitted(&policy, &mut hits, 4, WINDOW), 4 * WINDOW);
        // Fewer hits show at the end of a window.
        let enough = WINDOW.div_ceil(MAX_PAGES_PER_HIT);
        admitted(&policy, &mut hits, 1, enough - 1);
        let seldom = admitted(&policy, &mut hits, 4, enough - 1);
        assert!((1..=4 * WINDOW / PROBE_INTERVAL + 1).contains(&seldom), "{seldom} pages");
        admitted(&policy, &mut hits, 1, enough);
        assert_eq!(admitted(&policy, &mut hits, 4, enough), 4 * WINDOW);
    }
}
