//! Reserved arrays of atomic words, which store all metadata.

#![cfg_attr(
    not(any(loom, shuttle)),
    expect(unsafe_code, reason = "a mapped range is viewed as a slice of atomic words")
)]

use std::ops::Deref;

use sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

use crate::{Backing, MapError};

/// An atomic integer whose all-zero bytes are its default. Sealed to the three types below.
pub trait Word: Default + sealed::Sealed {
    /// Writes 0 atomically: other threads may read the word. The caller is the only writer.
    fn clear(&self);
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! word {
    ($($atomic:ty),*) => {$(
        impl sealed::Sealed for $atomic {}
        impl Word for $atomic {
            fn clear(&self) {
                // Relaxed: the caller is the only writer, see the trait.
                self.store(0, sync::atomic::Ordering::Relaxed);
            }
        }
    )*};
}
word!(AtomicU16, AtomicU32, AtomicU64);

/// A zero-filled array of words, reserved as a whole and committed where it is touched.
#[derive(Debug)]
pub struct Table<T: Word>(Words<T>);

#[derive(Debug)]
enum Words<T> {
    #[cfg(not(any(loom, shuttle)))]
    Mapped {
        mapping: crate::Mapping,
        len: usize,
    },
    Heap(Box<[T]>),
}

impl<T: Word> Table<T> {
    /// Reserves `len` words. [`Backing::Heap`] and model checkers allocate them from the heap at
    /// once; all other backings commit them on touch.
    ///
    /// # Errors
    /// [`MapError`] when the length is too large or the OS refuses the address range.
    pub fn reserve(len: usize, backing: Backing) -> Result<Self, MapError> {
        #[cfg(not(any(loom, shuttle)))]
        if backing != Backing::Heap {
            return Self::mapped(len, Backing::AnonymousSmall, crate::page_size());
        }
        let _ = backing;
        Ok(Self(Words::Heap((0..len).map(|_| T::default()).collect())))
    }

    /// Reserves `len` words as [`Table::reserve`] does, on a system with pages of `page` bytes.
    #[cfg(not(any(loom, shuttle)))]
    fn mapped(len: usize, backing: Backing, page: usize) -> Result<Self, MapError> {
        let bytes = len.max(1).checked_mul(size_of::<T>()).ok_or(MapError::Length { len })?;
        let mapping = crate::Mapping::with_pages(bytes, backing, page)?;
        Ok(Self(Words::Mapped { mapping, len }))
    }

    /// Sets the words `first..first + count` to zero and decommits the whole OS pages among them.
    /// Other threads may read these words meanwhile: they read the old value or zero. No other
    /// thread may write them.
    ///
    /// # Panics
    /// When the range is outside the table; in debug builds also as
    /// [`Mapping::decommit`](crate::Mapping::decommit).
    #[track_caller]
    pub fn discard(&self, first: usize, count: usize) {
        sync::order::assert_may_call_os();
        let words = &self[first..first + count];
        match &self.0 {
            #[cfg(not(any(loom, shuttle)))]
            Words::Mapped { mapping, .. } => {
                let size = size_of::<T>();
                let inner = whole_pages(first * size..(first + count) * size, mapping.page_size());
                // A page is a multiple of a word, so both page boundaries lie between words.
                let (from, to) = (inner.start / size - first, inner.end / size - first);
                // Words of parts of pages are written, and the others if the OS refuses.
                words[..from].iter().chain(&words[to..]).for_each(Word::clear);
                if mapping.decommit(inner.start, inner.len()).is_err() {
                    words[from..to].iter().for_each(Word::clear);
                }
            }
            Words::Heap(_) => words.iter().for_each(Word::clear),
        }
    }
}

/// Returns the whole pages inside a range of bytes; without any, an empty range at its end.
#[cfg(not(any(loom, shuttle)))]
fn whole_pages(bytes: std::ops::Range<usize>, page: usize) -> std::ops::Range<usize> {
    let (start, end) = (bytes.start.next_multiple_of(page), bytes.end / page * page);
    if start < end { start..end } else { bytes.end..bytes.end }
}

impl<T: Word> Deref for Table<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            #[cfg(not(any(loom, shuttle)))]
            // SAFETY: INV-MAP-1 and INV-MAP-2: the mapping holds at least `len * size_of::<T>()`
            // initialised bytes, aligned to a page, and lives as long as self. All-zero bytes are a
            // valid `T` (the trait is sealed to atomic integers), and atomics may be shared.
            Words::Mapped { mapping, len } => unsafe {
                std::slice::from_raw_parts(mapping.base().as_ptr().cast::<T>(), *len)
            },
            Words::Heap(words) => words,
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use sync::atomic::Ordering::Relaxed;

    /// The page sizes of Linux. Those larger than this system's are simulated by decommitting
    /// multiples of them.
    const PAGES: [usize; 3] = [4 << 10, 16 << 10, 64 << 10];

    fn tables() -> Vec<(Table<AtomicU64>, String)> {
        let words = if cfg!(miri) { 20_000 } else { 100_000 };
        let mut tables =
            vec![(Table::reserve(words, Backing::Heap).expect("room"), String::from("heap"))];
        for page in PAGES.into_iter().filter(|&page| page >= crate::page_size()) {
            // Miri cannot reserve without committing. The heap refuses to decommit, as the OS may.
            let mapped = (!cfg!(miri)).then_some(Backing::AnonymousSmall);
            for backing in mapped.into_iter().chain([Backing::Heap]) {
                let table = Table::mapped(words, backing, page).expect("room");
                tables.push((table, format!("{backing:?} in pages of {page}")));
            }
        }
        tables
    }

    #[test]
    fn discard_zeroes_exactly_its_range() {
        for (table, name) in tables() {
            // Inside one page, one whole page, several pages with a rest before and after.
            for (first, count) in
                [(100, 200), (512, 512), (100, 2000), (8192, 8192), (1000, 17_000)]
            {
                table.iter().for_each(|word| word.store(7, Relaxed));
                table.discard(first, count);
                for (index, word) in table.iter().enumerate() {
                    let expected = if (first..first + count).contains(&index) { 0 } else { 7 };
                    assert_eq!(
                        word.load(Relaxed),
                        expected,
                        "word {index} of {name} after {first}+{count}"
                    );
                }
            }
        }
    }

    /// `madvise` rounds lengths up to whole pages, so its arguments must be whole pages already.
    #[test]
    fn whole_pages_are_rounded_inwards() {
        for page in PAGES {
            for (start, end) in [
                (0, page),
                (1, page),
                (8, 2 * page + 8),
                (page, 3 * page),
                (page - 8, page + 8),
                (0, 0),
            ] {
                let inner = whole_pages(start..end, page);
                assert!(
                    inner.is_empty()
                        || inner.start.is_multiple_of(page) && inner.end.is_multiple_of(page)
                );
                assert!(
                    start <= inner.start && inner.end <= end,
                    "{inner:?} is outside {start}..{end}"
                );
                let expected =
                    (start.next_multiple_of(page)..=end).step_by(page).count().saturating_sub(1)
                        * page;
                assert_eq!(inner.len(), expected, "{start}..{end} in pages of {page}");
            }
            assert_eq!(whole_pages(4096..12288, 16 << 10), 12288..12288);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "maps memory")]
    fn a_part_of_a_page_is_not_decommitted() {
        let mapping =
            crate::Mapping::with_pages(1 << 20, Backing::Anonymous, 64 << 10).expect("room");
        let refused = mapping.decommit(0, 4096);
        assert_eq!(refused, Err(MapError::PartialPage { offset: 0, len: 4096, page: 64 << 10 }));
        assert_eq!(mapping.decommit(64 << 10, 128 << 10), Ok(()));
    }

    /// Miri reports a write that is not atomic as a data race.
    #[test]
    fn readers_beside_a_refused_discard_see_old_or_zero() {
        let table: Table<AtomicU64> = Table::mapped(2048, Backing::Heap, 4096).expect("room");
        table[600].store(7, Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(|| assert!([0, 7].contains(&table[600].load(Relaxed))));
            table.discard(0, 2048);
        });
        assert_eq!(table[600].load(Relaxed), 0);
    }

    #[test]
    fn an_impossible_length_is_an_error() {
        assert!(Table::<AtomicU64>::reserve(usize::MAX / 2, Backing::Anonymous).is_err());
    }
}
