//! Reserved arrays of atomic words: what all metadata is made of.

#![cfg_attr(
    not(any(loom, shuttle)),
    expect(unsafe_code, reason = "a mapped range is viewed as a slice of atomic words")
)]

use std::ops::Deref;

use sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

use crate::{Backing, MapError};

/// An atomic integer whose all-zero bytes are the value 0. Sealed: only the three words below are.
pub trait Word: sealed::Sealed {
    /// A word holding 0.
    fn zero() -> Self;
    /// Writes 0. Whoever discards a word is its only writer, so the order is his own business.
    fn clear(&self);
}

mod sealed {
    pub trait Sealed: Sized {}
}

macro_rules! word {
    ($($atomic:ty),*) => {$(
        impl sealed::Sealed for $atomic {}
        impl Word for $atomic {
            fn zero() -> Self {
                <$atomic>::new(0)
            }
            fn clear(&self) {
                // Relaxed: see the trait.
                self.store(0, sync::atomic::Ordering::Relaxed);
            }
        }
    )*};
}
word!(AtomicU16, AtomicU32, AtomicU64);

/// A zero-filled array of words, reserved as a whole and committed where it is touched.
///
/// Shape: `len` words. It reads as a slice. Memory is given back by [`Table::discard`].
#[derive(Debug)]
pub struct Table<T: Word> {
    words: Words<T>,
}

#[derive(Debug)]
enum Words<T> {
    #[cfg(not(any(loom, shuttle)))]
    Mapped {
        mapping: crate::Mapping,
        len: usize,
        word: std::marker::PhantomData<T>,
    },
    Heap(Box<[T]>),
}

impl<T: Word> Table<T> {
    /// Reserves `len` words. [`Backing::Heap`] and model checkers take them from the heap at once; all others on touch.
    ///
    /// # Errors
    /// [`MapError`] when the OS refuses the address range.
    pub fn reserve(len: usize, backing: Backing) -> Result<Self, MapError> {
        #[cfg(not(any(loom, shuttle)))]
        if backing != Backing::Heap {
            let bytes = len.max(1).checked_mul(size_of::<T>()).ok_or(MapError::Length { len })?;
            let mapping = crate::Mapping::reserve(bytes, Backing::AnonymousSmall)?;
            return Ok(Self { words: Words::Mapped { mapping, len, word: std::marker::PhantomData } });
        }
        let _ = backing;
        Ok(Self { words: Words::Heap((0..len).map(|_| T::zero()).collect()) })
    }

    /// Sets the words `first..first + count` to zero and gives the memory of whole OS pages among them back.
    ///
    /// Nobody else may use these words meanwhile in a way that minds their becoming zero.
    ///
    /// # Panics
    /// When the range does not lie inside the table.
    pub fn discard(&self, first: usize, count: usize) {
        let words = &self[first..first + count];
        match &self.words {
            #[cfg(not(any(loom, shuttle)))]
            Words::Mapped { mapping, .. } => {
                let (start, end) = (first * size_of::<T>(), (first + count) * size_of::<T>());
                let (inner_start, inner_end) = (start.next_multiple_of(crate::OS_PAGE), end & !(crate::OS_PAGE - 1));
                if inner_start >= inner_end {
                    words.iter().for_each(Word::clear);
                    return;
                }
                let head = (inner_start - start).div_ceil(size_of::<T>());
                let tail = (end - inner_end) / size_of::<T>();
                words[..head].iter().chain(&words[count - tail..]).for_each(Word::clear);
                mapping.discard(inner_start, inner_end - inner_start);
            }
            Words::Heap(_) => words.iter().for_each(Word::clear),
        }
    }
}

impl<T: Word> Deref for Table<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.words {
            #[cfg(not(any(loom, shuttle)))]
            // SAFETY: INV-MAP-1 and INV-MAP-2: the mapping holds at least `len * size_of::<T>()` initialised bytes, aligned to a page, and lives
            // as long as self. All-zero bytes are a valid `T` (the trait is sealed to atomic integers), and atomics may be shared.
            Words::Mapped { mapping, len, .. } => unsafe {
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

    #[test]
    fn discard_zeroes_exactly_the_range_with_ragged_ends() {
        // Miri cannot reserve without committing.
        let mapped = (!cfg!(miri)).then_some(Backing::Anonymous);
        for backing in mapped.into_iter().chain([Backing::Heap]) {
            let table: Table<AtomicU64> = Table::reserve(4096, backing).expect("32 KiB can be reserved");
            table.iter().for_each(|word| word.store(7, Relaxed));
            table.discard(100, 2000);
            for (index, word) in table.iter().enumerate() {
                assert_eq!(
                    word.load(Relaxed),
                    if (100..2100).contains(&index) { 0 } else { 7 },
                    "word {index} on {backing:?}"
                );
            }
        }
    }

    #[test]
    fn an_impossible_length_is_an_error() {
        assert!(Table::<AtomicU64>::reserve(usize::MAX / 2, Backing::Anonymous).is_err());
    }
}
