//! A set of pageblock numbers that finds its lowest and highest member fast.
//!
//! It has a bit for each pageblock, and a summary bit for each word of those that is not zero: 128
//! summary words for a zone of 1 TiB.
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
        self.update(block.index() / 64, |word| word | 1 << (block.index() % 64));
    }

    pub(crate) fn remove(&self, block: BlockIndex) {
        self.update(block.index() / 64, |word| word & !(1 << (block.index() % 64)));
    }

    /// Removes the lowest members: those of one summary word, at most 4096 pageblocks. Returns
    /// `false` when the set was empty.
    pub(crate) fn remove_lowest(&self) -> bool {
        let Some((top, summary)) = self.summary_words(0).find(|&(_, summary)| summary != 0) else {
            return false;
        };
        ones(top, summary).for_each(|at| self.update(at, |_| 0));
        true
    }

    fn word(&self, at: usize) -> u64 {
        self.bits[at].load(Relaxed)
    }

    /// Changes a word of members, its summary bit and both counts.
    fn update(&self, at: usize, change: impl Fn(u64) -> u64) {
        let old = self.word(at);
        let new = change(old);
        let step = |count: &Count, old: u32, new: u32| {
            count.store(count.load(Relaxed) + u64::from(new) - u64::from(old), Relaxed);
        };
        step(&self.members, old.count_ones(), new.count_ones());
        step(&self.pairs, pairs_in(old).count_ones(), pairs_in(new).count_ones());
        self.bits[at].store(new, Relaxed);
        if (old == 0) != (new == 0) {
            let top = &self.summary[at / 64];
            top.store(top.load(Relaxed) ^ 1 << (at % 64), Relaxed);
        }
    }

    fn summary_words(
        &self,
        from: usize,
    ) -> impl DoubleEndedIterator<Item = (usize, u64)> + ExactSizeIterator {
        let from = from.min(self.summary.len());
        let words = self.summary[from..].iter().enumerate();
        words.map(move |(at, word)| (from + at, word.load(Relaxed)))
    }

    pub(crate) fn contains(&self, block: BlockIndex) -> bool {
        let word = self.bits.get(block.index() / 64);
        word.is_some_and(|word| word.load(Relaxed) >> (block.index() % 64) & 1 == 1)
    }

    /// Returns the lowest member that is not in `range`.
    pub(crate) fn lowest_outside(&self, range: &Range<u32>) -> Option<BlockIndex> {
        let lowest = self.lowest_from(0)?;
        if range.contains(&lowest.0) { self.lowest_from(range.end) } else { Some(lowest) }
    }

    /// Returns the lowest member that is not below `start`.
    pub(crate) fn lowest_from(&self, start: u32) -> Option<BlockIndex> {
        let first = start as usize / 64;
        let member = |at: usize| {
            let from = if at == first { u64::MAX << (start % 64) } else { u64::MAX };
            let word = self.word(at) & from;
            (word != 0).then(|| number(at, word.trailing_zeros()))
        };
        let from = |top: usize| if top == first / 64 { u64::MAX << (first % 64) } else { u64::MAX };
        let tops = self.summary_words(first / 64);
        tops.flat_map(|(top, word)| ones(top, word & from(top))).find_map(member)
    }

    pub(crate) fn highest(&self) -> Option<BlockIndex> {
        self.highest_below(u32::MAX, None)
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
        tops.flat_map(|(top, word)| ones_down(top, word & upto(top))).find_map(member)
    }

    /// Returns the even member of the lowest pair of an even pageblock and the next one where each
    /// is in one of the two sets and neither is in `out`.
    pub(crate) fn lowest_pair_with(&self, other: &Self, out: &Range<u32>) -> Option<BlockIndex> {
        let tops = self.summary_words(0).zip(other.summary_words(0));
        let mut words = tops.flat_map(|((top, one), (_, other))| ones(top, one | other));
        words.find_map(|at| {
            let pairs = pairs_in((self.word(at) | other.word(at)) & !bits_of(out, at));
            (pairs != 0).then(|| number(at, pairs.trailing_zeros()))
        })
    }

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

/// Iterates over the words that a summary word names, lowest first.
fn ones(top: usize, mut summary: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (summary != 0).then(|| summary.trailing_zeros() as usize)?;
        summary &= summary - 1;
        Some(top * 64 + bit)
    })
}

/// Iterates over the words that a summary word names, highest first.
fn ones_down(top: usize, mut summary: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = summary.checked_ilog2()?;
        summary &= !(1 << bit);
        Some(top * 64 + bit as usize)
    })
}

/// Returns the bits of one word that a range of pageblocks covers.
fn bits_of(range: &Range<u32>, at: usize) -> u64 {
    let inside = |end: u32| (end as usize).saturating_sub(at * 64).min(64);
    let below = |end: u32| u64::MAX.checked_shr(64 - inside(end) as u32).unwrap_or(0);
    below(range.end) & !below(range.start)
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
                (set.lowest_from(0), set.highest()),
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
        assert_eq!(
            (set.members(), set.pairs(), set.lowest_from(0), set.highest()),
            (0, 0, None, None)
        );
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
