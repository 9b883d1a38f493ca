//! A page of content.

use std::ops::{Deref, DerefMut};

/// Size of a page. Units: bytes.
pub const PAGE_SIZE: usize = 4096;

/// 4 KiB of content at an address that is a multiple of 4 KiB, as `O_DIRECT` requires.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(4096))]
pub struct Page([u8; PAGE_SIZE]);

impl Page {
    /// Creates a page with this content.
    #[must_use]
    pub fn new(content: [u8; PAGE_SIZE]) -> Self {
        Self(content)
    }

    /// Creates a page of zeros.
    #[must_use]
    pub fn zeroed() -> Self {
        Self([0; PAGE_SIZE])
    }

    /// Returns whether all 8-byte words are equal, so that a store needs no codec for the page.
    #[must_use]
    pub fn is_same_filled(&self) -> bool {
        self.0[8..] == self.0[..PAGE_SIZE - 8]
    }

    /// Returns a 64-bit fingerprint of the content (FNV-1a over words, finished by a multiply).
    ///
    /// It serves to drop repeated pages.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0xCBF2_9CE4_8422_2325_u64;
        for word in self.0.as_chunks::<8>().0 {
            hash =
                (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x0100_0000_01B3).rotate_left(23);
        }
        hash.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

impl Deref for Page {
    type Target = [u8; PAGE_SIZE];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Page {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{PAGE_SIZE, Page};

    #[test]
    fn pages_in_a_vector_stay_aligned() {
        let pages = vec![Page::zeroed(); 3];
        assert!(pages.iter().all(|page| page.as_ptr().addr().is_multiple_of(PAGE_SIZE)));
        assert_eq!(size_of::<Page>(), PAGE_SIZE);
    }

    #[test]
    fn same_filled_means_every_word_is_equal() {
        let mut page = Page::new([0xAB; PAGE_SIZE]);
        assert!(page.is_same_filled());
        page[PAGE_SIZE - 1] ^= 1;
        assert!(!page.is_same_filled());
    }

    #[test]
    fn one_changed_byte_changes_the_fingerprint() {
        let mut page = Page::zeroed();
        let before = page.fingerprint();
        page[2000] = 1;
        assert_ne!(before, page.fingerprint());
    }
}
