//! Which pages of a mapping have failed.

// Not the modelled atomics: readers load the count after every copy, and a model checker would try every order of it.
use std::sync::atomic::{AtomicU64 as Count, fence};

use sync::atomic::AtomicU64;
use sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::{Backing, MapError, Table};

/// A bit for each page of a mapping whose memory has failed.
///
/// Everything in here may be called inside a signal handler: it takes no lock and no memory from the heap.
///
/// # Order
/// A page is noted before its mapping gets a fresh one in its place. So a thread that read bytes of the fresh page and then calls
/// [`FailedPages::reports`] finds the note counted.
///
/// On cache lines of its own: each read asks for the reports, which change with a failure only.
#[derive(Debug)]
#[repr(align(128))]
pub struct FailedPages {
    /// Units: bytes.
    page: usize,
    pages: usize,
    bits: Table<AtomicU64>,
    /// A bit for each word of `bits` that is not zero.
    summary: Table<AtomicU64>,
    reports: Count,
    count: Count,
}

impl FailedPages {
    /// No failed pages, of `pages` that have `page` bytes each.
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

    /// How often a failure was reported; 0 for a mapping that never had any, whose pages need no further look.
    ///
    /// What the calling thread read before this call is covered.
    #[inline]
    #[must_use]
    pub fn reports(&self) -> u64 {
        // Acquire: the reads of the bytes are not put off until after the load.
        fence(Acquire);
        // Acquire pairs with the Release in `note`: whoever finds the report finds the bit.
        self.reports.load(Acquire)
    }

    /// How many pages have failed.
    #[must_use]
    pub fn count(&self) -> u64 {
        // Relaxed: a number for people.
        self.count.load(Relaxed)
    }

    /// Whether a page has failed. What the calling thread read before this call is covered.
    #[inline]
    #[must_use]
    pub fn contains(&self, page: usize) -> bool {
        // Relaxed: `reports` has acquired the bit.
        self.reports() != 0
            && self
                .bits
                .get(page / 64)
                .is_some_and(|word| word.load(Relaxed) >> (page % 64) & 1 == 1)
    }

    /// Notes that a page has failed. Returns whether it is new (R-025: counted once).
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
        // Also for a page that was noted before: the other thread may not have come this far.
        // Release pairs with the Acquire in `reports`.
        self.reports.fetch_add(1, Release);
        is_new
    }

    /// Clears the notes of pages whose memory went back to the OS: what they get next is other memory. The caller is the only user of these pages.
    pub fn forget(&self, pages: std::ops::Range<usize>) {
        if self.reports() == 0 {
            return;
        }
        // The summary may keep bits of words that are zero.
        for page in pages.filter(|&page| self.contains(page)) {
            // Relaxed: nobody reads these pages; whoever gets one next is ordered by the lock it was handed out under.
            self.bits[page / 64].fetch_and(!(1 << (page % 64)), Relaxed);
        }
    }

    /// Notes the pages that `len` bytes from `offset` on lie in.
    pub(crate) fn note_bytes(&self, offset: usize, len: usize) {
        let end = offset.saturating_add(len).div_ceil(self.page).min(self.pages);
        (offset / self.page..end).for_each(|page| _ = self.note(page));
    }

    /// The failed pages, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        let words = self
            .summary
            .iter()
            .enumerate()
            .flat_map(|(index, word)| ones(index, word.load(Relaxed)));
        words.flat_map(|index| ones(index, self.bits[index].load(Relaxed)))
    }
}

/// The numbers of the bits that are set in the word with this number.
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
        assert!(failed.note(9_999) && !failed.note(10_000), "a page past the end is none");
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
