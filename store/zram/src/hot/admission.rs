//! Whether it pays to compress the oldest page for another one.
//!
//! To a load that seldom comes back to a page, a full cache is a detour on the way to the same compression. A hit saves a decompression and a
//! compression, which pays for the detours of several pages. A cache that is hit less often than that changes its pages seldom: often enough to find
//! out when the load has changed.

use sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Pages that ask for a place between two looks at the hits.
const WINDOW: u64 = 256;

/// A hit for so many of them is enough.
const MAX_PAGES_PER_HIT: u64 = 6;

/// One of so many gets a place while hits are fewer. Odd, so that it is not always the last part of a page that is written in eight.
const PROBE_INTERVAL: u64 = 17;

/// What the cache was good for lately. Relaxed throughout: hints.
#[derive(Debug)]
pub(crate) struct AdmissionPolicy {
    asked: AtomicU64,
    /// Hits by the end of the last window.
    hits: AtomicU64,
    pays: AtomicBool,
}

impl AdmissionPolicy {
    /// Good until it shows.
    pub(crate) fn new() -> Self {
        Self { asked: AtomicU64::new(0), hits: AtomicU64::new(0), pays: AtomicBool::new(true) }
    }

    /// Whether a page that asks for a place in the full cache gets that of the oldest. `hits` counts all there ever were.
    pub(crate) fn admit(&self, hits: impl FnOnce() -> u64) -> bool {
        let asked = self.asked.fetch_add(1, Relaxed);
        if asked % WINDOW == WINDOW - 1 {
            let hits = hits();
            let lately = hits.saturating_sub(self.hits.swap(hits, Relaxed));
            self.pays.store(lately * MAX_PAGES_PER_HIT >= WINDOW, Relaxed);
        }
        self.pays.load(Relaxed) || asked.is_multiple_of(PROBE_INTERVAL)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    /// How many of so many pages get a place, when `hits` hits come with each window.
    fn admitted(policy: &AdmissionPolicy, total: &mut u64, windows: u64, hits: u64) -> u64 {
        let mut admitted = 0;
        for _ in 0..windows {
            *total += hits;
            admitted += (0..WINDOW).filter(|_| policy.admit(|| *total)).count() as u64;
        }
        admitted
    }

    #[test]
    fn pages_change_seldom_while_hits_are_rare_and_at_once_when_they_are_not() {
        let (policy, mut hits) = (AdmissionPolicy::new(), 0);
        assert_eq!(admitted(&policy, &mut hits, 4, WINDOW), 4 * WINDOW);
        // Found out at the end of a window.
        let enough = WINDOW.div_ceil(MAX_PAGES_PER_HIT);
        admitted(&policy, &mut hits, 1, enough - 1);
        let seldom = admitted(&policy, &mut hits, 4, enough - 1);
        assert!((1..=4 * WINDOW / PROBE_INTERVAL + 1).contains(&seldom), "{seldom} places");
        admitted(&policy, &mut hits, 1, enough);
        assert_eq!(admitted(&policy, &mut hits, 4, enough), 4 * WINDOW);
    }
}
