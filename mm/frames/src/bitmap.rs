//! A set of pageblock numbers that finds its lowest and highest member fast.
//!
//! Two levels of bits: a bit for each pageblock, and a summary bit for each word of those. The lowest pageblock of a 1 TiB zone is
//! found among 128 summary words. Everything in here changes under the zone lock.

use std::ops::Range;

use sync::atomic::AtomicU64;
use sync::atomic::Ordering::Relaxed;
use sys::{Backing, MapError, Table};

use crate::units::BlockIndex;

/// A set of pageblocks.
#[derive(Debug)]
pub(crate) struct BlockSet {
    bits: Table<AtomicU64>,
    summary: Table<AtomicU64>,
}

impl BlockSet {
    pub(crate) fn reserve(blocks: usize, backing: Backing) -> Result<Self, MapError> {
        let words = blocks.div_ceil(64);
        Ok(Self { bits: Table::reserve(words, backing)?, summary: Table::reserve(words.div_ceil(64), backing)? })
    }

    // Relaxed throughout: the zone lock orders all of it.

    pub(crate) fn insert(&self, block: BlockIndex) {
        set(&self.bits, block.index());
        set(&self.summary, block.index() / 64);
    }

    pub(crate) fn remove(&self, block: BlockIndex) {
        let word = block.index() / 64;
        if clear(&self.bits, block.index()) == 0 {
            clear(&self.summary, word);
        }
    }

    pub(crate) fn contains(&self, block: BlockIndex) -> bool {
        self.bits.get(block.index() / 64).is_some_and(|word| word.load(Relaxed) >> (block.index() % 64) & 1 == 1)
    }

    pub(crate) fn lowest(&self) -> Option<BlockIndex> {
        let (top, summary) = self.summary.iter().map(|word| word.load(Relaxed)).enumerate().find(|&(_, w)| w != 0)?;
        let word = top * 64 + summary.trailing_zeros() as usize;
        Some(number(word, self.bits[word].load(Relaxed).trailing_zeros()))
    }

    /// The lowest member that is not in `range`.
    pub(crate) fn lowest_outside(&self, range: &Range<u32>) -> Option<BlockIndex> {
        let lowest = self.lowest()?;
        if range.contains(&lowest.0) { self.lowest_from(range.end) } else { Some(lowest) }
    }

    /// The lowest member from `start` on.
    pub(crate) fn lowest_from(&self, start: u32) -> Option<BlockIndex> {
        let first = start as usize / 64;
        let words = self.bits.get(first..)?.iter().map(|word| word.load(Relaxed)).enumerate();
        let mask = |at: usize, word: u64| if at == 0 { word & u64::MAX << (start % 64) } else { word };
        let (at, word) = words.map(|(at, word)| (at, mask(at, word))).find(|&(_, word)| word != 0)?;
        Some(number(first + at, word.trailing_zeros()))
    }

    pub(crate) fn highest(&self) -> Option<BlockIndex> {
        let words = self.summary.iter().map(|word| word.load(Relaxed)).enumerate();
        let (top, summary) = words.rev().find(|&(_, w)| w != 0)?;
        let word = top * 64 + summary.ilog2() as usize;
        Some(number(word, self.bits[word].load(Relaxed).ilog2()))
    }

    /// How many members there are, and how many pairs of an even block and the next one among them.
    pub(crate) fn count_with_pairs(&self, blocks: u32) -> (u64, u64) {
        let words = (blocks as usize).div_ceil(64);
        self.bits[..words].iter().map(|word| word.load(Relaxed)).fold((0, 0), |(members, pairs), word| {
            let even_pairs = word & (word >> 1) & 0x5555_5555_5555_5555;
            (members + u64::from(word.count_ones()), pairs + u64::from(even_pairs.count_ones()))
        })
    }

    /// Bytes committed when `blocks` pageblocks were ever members.
    pub(crate) fn committed_bytes(blocks: u32) -> u64 {
        let words = u64::from(blocks).div_ceil(64);
        crate::stats::pages(words * 8) + crate::stats::pages(words.div_ceil(64) * 8)
    }
}

fn number(word: usize, bit: u32) -> BlockIndex {
    // A zone has at most u32::MAX frames, hence far fewer pageblocks.
    BlockIndex(word as u32 * 64 + bit)
}

fn set(words: &Table<AtomicU64>, bit: usize) {
    let word = &words[bit / 64];
    word.store(word.load(Relaxed) | 1 << (bit % 64), Relaxed);
}

/// Returns what is left of the word.
fn clear(words: &Table<AtomicU64>, bit: usize) -> u64 {
    let word = &words[bit / 64];
    let left = word.load(Relaxed) & !(1 << (bit % 64));
    word.store(left, Relaxed);
    left
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn it_agrees_with_a_sorted_set() {
        let (set, mut model) = (BlockSet::reserve(9000, Backing::Heap).expect("small"), BTreeSet::new());
        let mut number = 1_u32;
        for _ in 0..4000 {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let block = BlockIndex(number >> 8 & 0x1fff);
            if number & 1 == 0 {
                set.insert(block);
                model.insert(block);
            } else {
                let victim = model.iter().next().copied().unwrap_or(block);
                set.remove(victim);
                model.remove(&victim);
            }
            assert_eq!((set.lowest(), set.highest()), (model.first().copied(), model.last().copied()));
            assert_eq!(set.contains(block), model.contains(&block));
            let (start, end) = (block.0, block.0 + 100);
            assert_eq!(set.lowest_from(start), model.range(block..).next().copied());
            let outside = model.iter().find(|b| !(start..end).contains(&b.0)).copied();
            assert_eq!(set.lowest_outside(&(start..end)), outside);
        }
        let pairs = model.iter().filter(|b| b.0 % 2 == 0 && model.contains(&BlockIndex(b.0 + 1))).count();
        assert_eq!(set.count_with_pairs(9000), (model.len() as u64, pairs as u64));
    }
}
