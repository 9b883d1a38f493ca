//! Detection and filling of pages that repeat one pattern.

use zcomp::Page;

/// Words compared before each check of the result: one cache line, by a few vector instructions.
const WORDS_PER_LINE: usize = 8;

/// Returns the 8 bytes that the whole page repeats, if it does. The first and the last word are
/// compared first: most other pages differ there.
pub(crate) fn page_same_filled(page: &Page) -> Option<[u8; 8]> {
    let words = page.as_chunks::<8>().0;
    let (first, last) = (words.first()?, words.last()?);
    if first != last {
        return None;
    }
    let pattern = u64::from_ne_bytes(*first);
    let differs = |line: &[[u8; 8]; WORDS_PER_LINE]| {
        line.iter().fold(0, |seen, word| seen | (u64::from_ne_bytes(*word) ^ pattern)) != 0
    };
    if words.as_chunks::<WORDS_PER_LINE>().0.iter().any(differs) { None } else { Some(*first) }
}

/// Fills the page with the 8 bytes repeated.
pub(crate) fn fill_page(page: &mut Page, pattern: [u8; 8]) {
    page.as_chunks_mut::<8>().0.fill(pattern);
}

/// Returns one half of a pattern whose halves are equal.
pub(crate) fn narrow_pattern(pattern: [u8; 8]) -> Option<u32> {
    let bits = u64::from_le_bytes(pattern);
    (bits as u32 == (bits >> 32) as u32).then_some(bits as u32)
}

/// Returns the pattern whose halves are both `half`.
pub(crate) fn widen_pattern(half: u32) -> [u8; 8] {
    (u64::from(half) << 32 | u64::from(half)).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn one_flipped_bit_makes_a_filled_page_not_filled(pattern: [u8; 8], at in 0usize..4096, bit in 0u32..8) {
            let mut page = [0xee; 4096];
            fill_page(&mut page, pattern);
            prop_assert_eq!(page_same_filled(&page), Some(pattern));
            page[at] ^= 1 << bit;
            prop_assert_eq!(page_same_filled(&page), None);
        }

        #[test]
        fn a_pattern_is_narrowed_only_if_its_halves_are_equal(pattern: [u8; 8], same: u32) {
            prop_assert_eq!(narrow_pattern(widen_pattern(same)), Some(same));
            prop_assert_eq!(narrow_pattern(pattern).is_some(), pattern[..4] == pattern[4..]);
        }
    }
}
