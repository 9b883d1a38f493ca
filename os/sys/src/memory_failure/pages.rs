//! The set of failed pages of a mapping.

// Not the atomics of the `sync` crate: readers load the count after every copy, and a model checker
// would run every order of that load.
use std::sync::atomic::{AtomicU64 as Count, fence};

use sync::atomic::AtomicU64;
use sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::{Backing, MapError, Table};

/// A set of the pages of a mapping whose memory has failed: one bit a page. All functions but
/// [`FailedPages::reserve`] are async-signal-safe: they take no lock and allocate nothing.
///
/// # Order
/// The handler notes a page before it maps a fresh one in its place. So a thread that read bytes of
/// the fresh page and then calls [`FailedPages::reports`] finds the note counted.
///
/// Every read of pool bytes loads `reports`; the alignment keeps unrelated writes away from it.
#[derive(Debug)]
#[repr(align(128))]
pub struct FailedPages {
    /// The page size. Units: bytes.
    page: usize,
    pages: usize,
    bits: Table<AtomicU64>,
    /// One bit for each word of `bits` that is not zero.
    summary: Table<AtomicU64>,
    reports: Count,
    count: Count,
}

impl FailedPages {
    /// Reserves an empty set for `pages` pages of `page` bytes each.
    ///
    /// # Errors
    /// [`MapError`] when the address space cannot be reserved.
    pub fn reserve(pages: usize, page: usize, backing: Backing) -> Result<Self, MapError> {
        let words = pages.div_ceil(64);
        Ok(Self {
            page,
            pages,
            bits: Table::reserve(words, backing)?,
            summary: Table::reserve(words.div_ceil(64), backing)?,
            reports: Count::new(0),
            count: Count::new(0),
        })
    }

    /// Returns how many failures were reported. 0 means that no page of the mapping has failed.
    /// Covers all bytes that the calling thread read before this call.
    #[inline]
    #[must_use]
    pub fn reports(&self) -> u64 {
        // Acquire: orders the earlier reads of the bytes before the load.
        fence(Acquire);
        // Acquire pairs with the Release in `note`: a thread that reads the report reads the bit.
        self.reports.load(Acquire)
    }

    /// Returns how many pages have failed.
    #[must_use]
    pub fn count(&self) -> u64 {
        // Relaxed: a statistic, which orders nothing.
        self.count.load(Relaxed)
    }

    /// Returns whether a page has failed. Covers the same bytes as [`FailedPages::reports`].
    #[inline]
    #[must_use]
    pub fn contains(&self, page: usize) -> bool {
        // Relaxed: the Acquire in `reports` makes the bit visible.
        let is_set = |word: &AtomicU64| word.load(Relaxed) >> (page % 64) & 1 == 1;
        self.reports() != 0 && self.bits.get(page / 64).is_some_and(is_set)
    }

    /// Notes that a page has failed. Returns whether the note is new: a page counts once.
    pub fn note(&self, page: usize) -> bool {
        if page >= self.pages {
            return false;
        }
        let bit = 1 << (page % 64);
        // Relaxed: published by the Release below.
        let is_new = self.bits[page / 64].fetch_or(bit, Relaxed) & bit == 0;
        self.summary[page / 64 / 64].fetch_or(1 << (page / 64 % 64), Relaxed);
        if is_new {
            self.count.fetch_add(1, Relaxed);
        }
        // Also for a page noted before: the other thread may not have counted its report yet.
        // Release pairs with the Acquire in `reports`.
        self.reports.fetch_add(1, Release);
        is_new
    }

    /// Clears the notes of pages whose memory went back to the OS. The caller is their only user.
    pub fn forget(&self, pages: std::ops::Range<usize>) {
        if self.reports() == 0 {
            return;
        }
        // The summary may keep bits of words that are zero.
        for page in pages.filter(|&page| self.contains(page)) {
            // Relaxed: no thread reads these pages now, and the lock under which a page is
            // allocated next orders this store.
            self.bits[page / 64].fetch_and(!(1 << (page % 64)), Relaxed);
        }
    }

    /// Notes all pages that overlap `len` bytes from `offset` on.
    pub(crate) fn note_bytes(&self, offset: usize, len: usize) {
        let end = offset.saturating_add(len).div_ceil(self.page).min(self.pages);
        (offset / self.page..end).for_each(|page| _ = self.note(page));
    }

    /// Returns the failed pages in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        let set = |(index, word): (usize, &AtomicU64)| ones(index, word.load(Relaxed));
        let words = self.summary.iter().enumerate().flat_map(set);
        words.flat_map(|index| ones(index, self.bits[index].load(Relaxed)))
    }
}

/// Returns the bit numbers of the set bits of the word at `index`.
fn ones(index: usize, mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(index * 64 + bit)
    })
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_counted_once_and_stays_noted() {
        let failed = FailedPages::reserve(10_000, 4096, Backing::Heap).expect("room");
        assert_eq!((failed.reports(), failed.count(), failed.contains(7)), (0, 0, false));
        assert!(failed.note(7) && !failed.note(7));
        assert!(failed.note(9_999) && !failed.note(10_000), "a page past the end is ignored");
        assert_eq!((failed.reports(), failed.count()), (3, 2));
        assert_eq!(failed.iter().collect::<Vec<_>>(), [7, 9_999]);
        assert!(failed.contains(7) && !failed.contains(8) && !failed.contains(1 << 40));
        failed.forget(0..64);
        assert_eq!(failed.iter().collect::<Vec<_>>(), [9_999]);
    }

    #[test]
    fn bytes_fail_as_whole_pages() {
        let failed = FailedPages::reserve(100, 4096, Backing::Heap).expect("room");
        failed.note_bytes(4096 * 3 + 5, 1);
        failed.note_bytes(4096 * 98, 1 << 20);
        assert_eq!(failed.iter().collect::<Vec<_>>(), [3, 98, 99]);
    }
}
