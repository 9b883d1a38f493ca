//! A set of frames as a bitmap. Its memory is known exactly and depends only on the highest member.

use frames::Pfn;

const BITS: usize = u64::BITS as usize;

/// A set of frame numbers.
#[derive(Debug, Default)]
pub(crate) struct FrameSet {
    words: Vec<u64>,
    len: usize,
    /// The first word that may have a member.
    first_word: usize,
}

impl FrameSet {
    /// Returns the number of members.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the heap memory of the set. Units: bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    /// Adds a frame. Returns whether it is new.
    pub(crate) fn insert(&mut self, pfn: Pfn) -> bool {
        let (word, bit) = bit_position(pfn);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        if self.len == 0 || word < self.first_word {
            self.first_word = word;
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.len += usize::from(new);
        new
    }

    /// Removes a frame. Returns whether it was a member.
    pub(crate) fn remove(&mut self, pfn: Pfn) -> bool {
        let (word, bit) = bit_position(pfn);
        let was = self.words.get(word).is_some_and(|&word| word & bit != 0);
        if was {
            self.words[word] &= !bit;
            self.len -= 1;
            let empty = self.words[self.first_word..].iter().take_while(|&&word| word == 0).count();
            self.first_word += empty;
        }
        was
    }

    /// Returns the members in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Pfn> + '_ {
        let words =
            self.words.iter().enumerate().skip(self.first_word).filter(|&(_, &word)| word != 0);
        words.flat_map(|(at, &word)| {
            let set = (0..BITS).filter(move |bit| word >> bit & 1 != 0);
            // The cast cannot truncate: a member is a frame number of 32 bits.
            set.map(move |bit| Pfn((at * BITS + bit) as u32))
        })
    }
}

/// Returns the word of a frame and its bit in that word.
fn bit_position(pfn: Pfn) -> (usize, u64) {
    (pfn.0 as usize / BITS, 1 << (pfn.0 as usize % BITS))
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    impl FrameSet {
        fn contains(&self, pfn: Pfn) -> bool {
            let (word, bit) = bit_position(pfn);
            self.words.get(word).is_some_and(|&word| word & bit != 0)
        }
    }

    impl FromIterator<Pfn> for FrameSet {
        fn from_iter<I: IntoIterator<Item = Pfn>>(frames: I) -> Self {
            let mut set = Self::default();
            frames.into_iter().for_each(|pfn| _ = set.insert(pfn));
            set
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(steps in prop::collection::vec((any::<bool>(), 0..400_u32), 0..400)) {
            let (mut set, mut model) = (FrameSet::default(), BTreeSet::new());
            for (insert, number) in steps {
                let pfn = Pfn(number);
                if insert {
                    prop_assert_eq!(set.insert(pfn), model.insert(pfn));
                } else {
                    prop_assert_eq!(set.remove(pfn), model.remove(&pfn));
                }
                prop_assert_eq!(set.len(), model.len());
                prop_assert_eq!(set.contains(pfn), model.contains(&pfn));
                prop_assert!(set.iter().eq(model.iter().copied()));
            }
        }
    }

    #[test]
    fn takes_one_bit_a_frame_up_to_the_highest() {
        let set: FrameSet = (0..1 << 20).map(Pfn).collect();
        assert_eq!((set.len(), set.iter().count()), (1 << 20, 1 << 20));
        assert!((1 << 17..=1 << 18).contains(&set.bytes()), "{}", set.bytes());
    }
}
