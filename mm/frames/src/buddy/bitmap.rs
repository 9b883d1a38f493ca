//! A set of pageblock numbers that finds its lowest and highest member fast.
//!
//! The set has two levels of bits: a bit for each pageblock, and a summary bit for each word of
//! those. The lowest pageblock of a 1 TiB zone is found among 128 summary words.
//!
//! Every change is made under the zone lock. Without it the answers are hints: the two levels may
//! disagree for a moment, and each search skips a summary bit without members.

use std::ops::Range;
// Not the modelled atomics: counts order nothing, and loom would explore every order of them.
use std::sync::atomic::AtomicU64 as Count;

use sync::atomic::AtomicU64;
use sync::atomic::Ordering::Relaxed;
use sys::{Backing, MapError, Table};

use crate::units::BlockIndex;

/// A set of pageblocks.
#[derive(Debug)]
pub(crate) struct BlockSet {
    bits: Table<AtomicU64>,
    summary: Table<AtomicU64>,
    /// The number of members.
    members: Count,
    /// The number of pairs of an even pageblock and the next one that are both members.
    pairs: Count,
}

/// The even bits of a word.
const EVEN: u64 = 0x5555_5555_5555_5555;

impl BlockSet {
    /// Reserves the tables of an empty set of `blocks` possible members.
    ///
    /// # Errors
    /// [`MapError`] when the OS refuses the addresses.
    pub(crate) fn reserve(blocks: usize, backing: Backing) -> Result<Self, MapError> {
        let words = blocks.div_ceil(64);
        Ok(Self {
            bits: Table::reserve(words, backing)?,
            summary: Table::reserve(words.div_ceil(64), backing)?,
            members: Count::new(0),
            pairs: Count::new(0),
        })
    }

    // Relaxed throughout: the zone lock orders all changes.

    pub(crate) fn insert(&self, block: BlockIndex) {
        let word = self.word(block.index() / 64);
        self.store(block.index() / 64, word, word | 1 << (block.index() % 64));
        set(&self.summary, block.index() / 64);
    }

    pub(crate) fn remove(&self, block: BlockIndex) {
        let word = self.word(block.index() / 64);
        let left = word & !(1 << (block.index() % 64));
        self.store(block.index() / 64, word, left);
        if left == 0 {
            clear(&self.summary, block.index() / 64);
        }
    }

    /// Removes the lowest members: those of one summary word, at most 4096 pageblocks. Returns
    /// `false` when the set was empty.
    pub(crate) fn remove_lowest(&self) -> bool {
        let Some((top, summary)) = self.summary_words(0).find(|&(_, summary)| summary != 0) else {
            return false;
        };
        ones(summary).map(|bit| top * 64 + bit).for_each(|at| self.store(at, self.word(at), 0));
        self.summary[top].store(0, Relaxed);
        true
    }

    fn word(&self, at: usize) -> u64 {
        self.bits[at].load(Relaxed)
    }

    /// Stores a word of members and adjusts both counts.
    fn store(&self, at: usize, old: u64, new: u64) {
        let step = |count: &Count, old: u32, new: u32| {
            count.store(count.load(Relaxed) + u64::from(new) - u64::from(old), Relaxed);
        };
        step(&self.members, old.count_ones(), new.count_ones());
        step(&self.pairs, pairs_in(old).count_ones(), pairs_in(new).count_ones());
        self.bits[at].store(new, Relaxed);
    }

    fn summary_words(
        &self,
        from: usize,
    ) -> impl DoubleEndedIterator<Item = (usize, u64)> + ExactSizeIterator {
        let from = from.min(self.summary.len());
        self.summary[from..]
            .iter()
            .enumerate()
            .map(move |(at, word)| (from + at, word.load(Relaxed)))
    }

    pub(crate) fn contains(&self, block: BlockIndex) -> bool {
        self.bits
            .get(block.index() / 64)
            .is_some_and(|word| word.load(Relaxed) >> (block.index() % 64) & 1 == 1)
    }

    /// Returns the lowest member.
    pub(crate) fn lowest(&self) -> Option<BlockIndex> {
        let (top, summary) = self
            .summary
            .iter()
            .map(|word| word.load(Relaxed))
            .enumerate()
            .find(|&(_, w)| w != 0)?;
        let word = top * 64 + summary.trailing_zeros() as usize;
        Some(number(word, self.bits[word].load(Relaxed).trailing_zeros()))
    }

    /// Returns the lowest member that is not in `range`.
    pub(crate) fn lowest_outside(&self, range: &Range<u32>) -> Option<BlockIndex> {
        let lowest = self.lowest()?;
        if range.contains(&lowest.0) { self.lowest_from(range.end) } else { Some(lowest) }
    }

    /// Returns the lowest member that is not below `start`.
    pub(crate) fn lowest_from(&self, start: u32) -> Option<BlockIndex> {
        // The rest of the first word, then the words that the summary names.
        let first = start as usize / 64;
        let rest = self.bits.get(first)?.load(Relaxed) & u64::MAX << (start % 64);
        if rest != 0 {
            return Some(number(first, rest.trailing_zeros()));
        }
        let next = first + 1;
        let mask = |top: usize| if top == next / 64 { u64::MAX << (next % 64) } else { u64::MAX };
        let mut words = self
            .summary_words(next / 64)
            .flat_map(|(top, w)| ones(w & mask(top)).map(move |b| top * 64 + b));
        words
            .find_map(|at| Some((at, self.word(at))).filter(|&(_, w)| w != 0))
            .map(|(at, w)| number(at, w.trailing_zeros()))
    }

    /// Returns the highest member below `end` that is not in `except`.
    pub(crate) fn highest_below(&self, end: u32, except: Option<&Self>) -> Option<BlockIndex> {
        let last = end as usize / 64;
        let member = |at: usize| {
            let below = if at == last { (1 << (end % 64)) - 1 } else { u64::MAX };
            let word = self.word(at) & below & !except.map_or(0, |other| other.word(at));
            (word != 0).then(|| number(at, word.ilog2()))
        };
        let upto =
            |top: usize| if top == last / 64 { u64::MAX >> (63 - last % 64) } else { u64::MAX };
        let tops = self.summary_words(0).take(last / 64 + 1).rev();
        tops.flat_map(|(top, word)| ones_down(word & upto(top)).map(move |bit| top * 64 + bit))
            .find_map(member)
    }

    /// Returns the even member of the lowest pair of an even pageblock and the next one where each
    /// is in one of the two sets and neither is in `out`.
    pub(crate) fn lowest_pair_with(&self, other: &Self, out: &Range<u32>) -> Option<BlockIndex> {
        let tops = self
            .summary_words(0)
            .zip(other.summary_words(0))
            .map(|((top, one), (_, other))| (top, one | other));
        let words = tops.flat_map(|(top, word)| ones(word).map(move |bit| top * 64 + bit));
        words.into_iter().find_map(|at| {
            let pairs = pairs_in((self.word(at) | other.word(at)) & !bits_of(out, at));
            (pairs != 0).then(|| number(at, pairs.trailing_zeros()))
        })
    }

    /// Returns the highest member.
    pub(crate) fn highest(&self) -> Option<BlockIndex> {
        let words = self
            .summary_words(0)
            .rev()
            .flat_map(|(top, word)| ones_down(word).map(move |bit| top * 64 + bit));
        words
            .into_iter()
            .map(|at| (at, self.word(at)))
            .find(|&(_, w)| w != 0)
            .map(|(at, w)| number(at, w.ilog2()))
    }

    /// Returns the number of members.
    pub(crate) fn members(&self) -> u64 {
        self.members.load(Relaxed)
    }

    /// Returns the number of pairs of an even pageblock and the next one that are both members.
    pub(crate) fn pairs(&self) -> u64 {
        self.pairs.load(Relaxed)
    }

    /// Recounts members and pairs, for a check.
    pub(crate) fn recount(&self) -> (u64, u64) {
        self.bits.iter().map(|word| word.load(Relaxed)).fold((0, 0), |(members, pairs), word| {
            (members + u64::from(word.count_ones()), pairs + u64::from(pairs_in(word).count_ones()))
        })
    }

    /// Returns the bytes of the set that are committed when `blocks` pageblocks were ever members.
    pub(crate) fn committed_bytes(blocks: u32) -> u64 {
        let words = u64::from(blocks).div_ceil(64);
        crate::geometry::pages(words * 8) + crate::geometry::pages(words.div_ceil(64) * 8)
    }
}

fn number(word: usize, bit: u32) -> BlockIndex {
    // A zone has at most u32::MAX frames, and far fewer pageblocks.
    BlockIndex(word as u32 * 64 + bit)
}

/// Returns the even bits of the pairs that are both set.
fn pairs_in(word: u64) -> u64 {
    word & word >> 1 & EVEN
}

/// Iterates over the set bits, lowest first.
fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}

/// Iterates over the set bits, highest first.
fn ones_down(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.checked_ilog2()?;
        word &= !(1 << bit);
        Some(bit as usize)
    })
}

/// Returns the bits of one word that a range of pageblocks covers.
fn bits_of(range: &Range<u32>, at: usize) -> u64 {
    let inside = |end: u32| (end as usize).saturating_sub(at * 64).min(64);
    let below = |end: u32| u64::MAX.checked_shr(64 - inside(end) as u32).unwrap_or(0);
    below(range.end) & !below(range.start)
}

fn set(words: &Table<AtomicU64>, bit: usize) {
    let word = &words[bit / 64];
    word.store(word.load(Relaxed) | 1 << (bit % 64), Relaxed);
}

fn clear(words: &Table<AtomicU64>, bit: usize) {
    let word = &words[bit / 64];
    word.store(word.load(Relaxed) & !(1 << (bit % 64)), Relaxed);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn it_agrees_with_a_sorted_set() {
        let (set, mut model) =
            (BlockSet::reserve(9000, Backing::Heap).expect("small"), BTreeSet::new());
        let mut number = 1_u32;
        for _ in 0..4000 {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let block = BlockIndex(number >> 8 & 0x1fff);
            // Not the lowest bit: that one alternates.
            if number >> 30 != 0 {
                set.insert(block);
                model.insert(block);
            } else {
                let victim = model.iter().next().copied().unwrap_or(block);
                set.remove(victim);
                model.remove(&victim);
            }
            assert_eq!(
                (set.lowest(), set.highest()),
                (model.first().copied(), model.last().copied())
            );
            assert_eq!(set.contains(block), model.contains(&block));
            let (start, end) = (block.0, block.0 + 100);
            assert_eq!(set.lowest_from(start), model.range(block..).next().copied());
            let outside = model.iter().find(|b| !(start..end).contains(&b.0)).copied();
            assert_eq!(set.lowest_outside(&(start..end)), outside);
            assert_eq!(set.highest_below(block.0, None), model.range(..block).next_back().copied());
        }
        let even = |b: &&BlockIndex| b.0.is_multiple_of(2) && model.contains(&BlockIndex(b.0 + 1));
        let pairs: Vec<_> = model.iter().filter(even).copied().collect();
        assert_eq!((set.members(), set.pairs()), (model.len() as u64, pairs.len() as u64));
        assert_eq!(set.recount(), (set.members(), set.pairs()));
        let none = BlockSet::reserve(9000, Backing::Heap).expect("small");
        assert_eq!(set.lowest_pair_with(&none, &(0..0)), pairs.first().copied());
        let from = pairs[pairs.len() / 2].0 + 1;
        assert_eq!(
            none.lowest_pair_with(&set, &(0..from)),
            pairs.iter().find(|pair| pair.0 >= from).copied()
        );
        let mut left = model.len() as u64;
        while set.remove_lowest() {
            assert!(set.members() < left && set.recount() == (set.members(), set.pairs()));
            left = set.members();
        }
        assert_eq!((set.members(), set.pairs(), set.lowest(), set.highest()), (0, 0, None, None));
    }

    #[test]
    fn highest_below_skips_members_of_another_set() {
        let set = |blocks: &[u32]| {
            let set = BlockSet::reserve(9000, Backing::Heap).expect("small");
            blocks.iter().for_each(|&block| set.insert(BlockIndex(block)));
            set
        };
        let (all, out) = (set(&[3, 64, 4999, 5000, 8999]), set(&[5000, 8999, 3]));
        assert_eq!(all.highest_below(9000, Some(&out)), Some(BlockIndex(4999)));
        assert_eq!(all.highest_below(4999, Some(&out)), Some(BlockIndex(64)));
        assert_eq!(all.highest_below(64, Some(&out)), None);
    }

    #[test]
    fn a_range_covers_its_bits_of_a_word() {
        assert_eq!(bits_of(&(0..0), 0), 0);
        assert_eq!(bits_of(&(3..5), 0), 0b11000);
        assert_eq!(bits_of(&(60..70), 0), 0xf << 60);
        assert_eq!(bits_of(&(60..70), 1), 0x3f);
        assert_eq!(bits_of(&(0..200), 1), u64::MAX);
        assert_eq!(bits_of(&(0..200), 4), 0);
    }
}
