//! The metadata of each pageblock: a state word, and a bit for each free frame.

// Not the modelled atomics: counts order nothing, and loom would explore every order of them.
use std::sync::atomic::AtomicU64 as Count;

use sync::atomic::Ordering::Relaxed;
use sync::atomic::{AtomicU32, AtomicU64};
use sys::{Backing, MapError, Table};

use super::freelist::{FREE_LIST_KINDS, FreeListKind};
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::units::{BlockIndex, MigrateType, Pfn};

/// Words of the free map of one pageblock.
const MAP_WORDS: usize = (PAGEBLOCK_FRAMES as usize).div_ceil(64);

/// Whether a pageblock has memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitState {
    /// Above the high-water mark: never used.
    Offline,
    /// Its frames are in use or on free lists.
    Committed,
    /// It is being decommitted, and its frames are on no list.
    Releasing,
    /// Free, and without memory.
    Released,
}

/// The state of one pageblock.
///
/// ```text
///  31 30 29       20 19          10 9   6 5   4 3    2 1            0
/// +-----+-----------+--------------+-----+---+---+------+--------------+
/// | 0   | touched   | free frames  | 0   | I | 0 | type | commit_state |
/// +-----+-----------+--------------+-----+---+---+------+--------------+
///  I = isolated: no request gets its free frames
/// ```
/// Free frames (0..=512) are those on buddy lists; frames on per-CPU lists count as taken. The OS
/// may hold memory for the frames below `touched` (0..=512).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageblockState {
    pub(crate) commit_state: CommitState,
    pub(crate) migrate_type: MigrateType,
    pub(crate) free: u32,
    /// Whether a thread has isolated it. Its migrate type is kept until the isolation ends.
    pub(crate) isolated: bool,
    /// The first frame that was not allocated since the pageblock was committed, nor counts so.
    pub(crate) touched: u32,
}

impl PageblockState {
    fn from_bits(bits: u32) -> Self {
        let commit_state = match bits & 3 {
            0 => CommitState::Offline,
            1 => CommitState::Committed,
            2 => CommitState::Releasing,
            _ => CommitState::Released,
        };
        let migrate_type = MigrateType::ALL[(bits >> 2 & 3).min(2) as usize];
        let (free, touched) = (bits >> 10 & 0x3ff, bits >> 20 & 0x3ff);
        Self { commit_state, migrate_type, free, isolated: bits & ISOLATED != 0, touched }
    }

    fn bits(self) -> u32 {
        let isolated = if self.isolated { ISOLATED } else { 0 };
        self.commit_state as u32
            | (self.migrate_type as u32) << 2
            | isolated
            | self.free << 10
            | self.touched << 20
    }

    /// Returns the kind of list that its free blocks are on.
    pub(crate) fn list_kind(self) -> FreeListKind {
        if self.isolated { FreeListKind::Isolated } else { FreeListKind::Type(self.migrate_type) }
    }

    /// Returns the frames in use; `None` while it is isolated or being decommitted.
    pub(crate) fn in_use(self) -> Option<u32> {
        match self.commit_state {
            _ if self.isolated => None,
            CommitState::Releasing => None,
            CommitState::Offline | CommitState::Released => Some(0),
            CommitState::Committed => Some(PAGEBLOCK_FRAMES - self.free),
        }
    }

    /// Returns its index in [`Pageblocks::counts`].
    fn row(self) -> Option<usize> {
        match self.commit_state {
            CommitState::Offline => None,
            CommitState::Committed => Some(self.list_kind().index()),
            CommitState::Releasing | CommitState::Released => Some(WITHOUT_MEMORY),
        }
    }
}

/// The index of pageblocks without memory, after one for each kind of free list.
pub(crate) const WITHOUT_MEMORY: usize = FREE_LIST_KINDS;
/// Kinds of pageblocks that are counted.
pub(crate) const ROWS: usize = WITHOUT_MEMORY + 1;

const ISOLATED: u32 = 1 << 5;
const _: () = assert!(PAGEBLOCK_FRAMES <= 0x3ff);

/// All pageblocks of a zone. They change under the zone lock and may be read without.
#[derive(Debug)]
pub(crate) struct Pageblocks {
    states: Table<AtomicU32>,
    free_map: Table<AtomicU64>,
    /// Online pageblocks of each kind.
    counts: [Count; ROWS],
}

impl Pageblocks {
    /// Reserves the tables of pageblocks that are all offline.
    ///
    /// # Errors
    /// [`MapError`] when the OS refuses the addresses.
    pub(crate) fn reserve(blocks: usize, backing: Backing) -> Result<Self, MapError> {
        Ok(Self {
            states: Table::reserve(blocks, backing)?,
            free_map: Table::reserve(blocks * MAP_WORDS, backing)?,
            counts: std::array::from_fn(|_| Count::new(0)),
        })
    }

    pub(crate) fn state(&self, block: BlockIndex) -> PageblockState {
        // Relaxed: the zone lock orders changes. Without it the state is a hint about which
        // list suits a freed frame.
        PageblockState::from_bits(self.states[block.index()].load(Relaxed))
    }

    /// Changes the state of a pageblock and adjusts the counts.
    pub(crate) fn update(&self, block: BlockIndex, change: impl FnOnce(&mut PageblockState)) {
        let mut block_state = self.state(block);
        let from = block_state.row();
        change(&mut block_state);
        let to = block_state.row();
        if from != to {
            let count = |row: usize| &self.counts[row];
            from.map(count).inspect(|count| count.store(count.load(Relaxed) - 1, Relaxed));
            to.map(count).inspect(|count| count.store(count.load(Relaxed) + 1, Relaxed));
        }
        self.states[block.index()].store(block_state.bits(), Relaxed);
    }

    /// Returns the online pageblocks of each kind.
    pub(crate) fn counts(&self) -> [u64; ROWS] {
        std::array::from_fn(|row| self.counts[row].load(Relaxed))
    }

    /// Recounts [`Pageblocks::counts`], for a check.
    pub(crate) fn recount(&self, online: u32) -> [u64; ROWS] {
        let mut counts = [0; ROWS];
        (0..online)
            .filter_map(|block| self.state(BlockIndex(block)).row())
            .for_each(|row| counts[row] += 1);
        counts
    }

    fn words(&self, block: BlockIndex) -> &[AtomicU64] {
        &self.free_map[block.index() * MAP_WORDS..][..MAP_WORDS]
    }

    /// Returns the lowest free frame of a pageblock.
    pub(crate) fn first_free(&self, block: BlockIndex) -> Option<Pfn> {
        let mut words = self.words(block).iter().map(|word| word.load(Relaxed)).enumerate();
        let (word, bits) = words.find(|&(_, bits)| bits != 0)?;
        // At most 511, inside the block.
        Some(block.first().plus(word as u32 * 64 + bits.trailing_zeros()))
    }

    /// Returns whether a frame is on a buddy list.
    pub(crate) fn is_free(&self, pfn: Pfn) -> bool {
        let offset = pfn.offset_in_block();
        self.words(pfn.block())[offset as usize / 64].load(Relaxed) >> (offset % 64) & 1 == 1
    }

    /// Flips the free-map bits of `count` adjacent frames of one pageblock.
    ///
    /// # Panics
    /// When one of them has the new value already.
    pub(crate) fn flip(&self, first: Pfn, count: u32, to: Occupancy) {
        let (mut offset, end) = (first.offset_in_block(), first.offset_in_block() + count);
        let words = self.words(first.block());
        while offset < end {
            let bit = offset % 64;
            let here = (64 - bit).min(end - offset);
            let mask = (u64::MAX >> (64 - here)) << bit;
            let word = &words[offset as usize / 64];
            let old = word.load(Relaxed);
            let expected = if to == Occupancy::Free { 0 } else { mask };
            assert!(
                old & mask == expected,
                "some of the {count} frames from {first} on are already {to:?}"
            );
            word.store(old ^ mask, Relaxed);
            offset += here;
        }
    }

    /// Returns the bytes committed when the first `blocks` pageblocks were ever online.
    pub(crate) fn committed_bytes(blocks: u32) -> u64 {
        let blocks = u64::from(blocks);
        crate::geometry::pages(blocks * 4) + crate::geometry::pages(blocks * MAP_WORDS as u64 * 8)
    }
}

/// Whether a frame is on a buddy list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occupancy {
    Free,
    Taken,
}

/// Splits a range of frames at the borders of pageblocks.
pub(crate) fn pageblock_parts(first: Pfn, frames: u32) -> impl Iterator<Item = (Pfn, u32)> {
    let end = first.plus(frames);
    let after = move |pfn: Pfn| pfn.block().first().plus(PAGEBLOCK_FRAMES).min(end);
    std::iter::successors(Some(first), move |&pfn| Some(after(pfn)))
        .take_while(move |&pfn| pfn < end)
        .map(move |pfn| (pfn, after(pfn).0 - pfn.0))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn pageblock_states_round_trip() {
        for commit_state in [
            CommitState::Offline,
            CommitState::Committed,
            CommitState::Releasing,
            CommitState::Released,
        ] {
            for migrate_type in MigrateType::ALL {
                for (free, isolated) in [(0, false), (1, true), (PAGEBLOCK_FRAMES, true)] {
                    let touched = PAGEBLOCK_FRAMES - free;
                    let block_state =
                        PageblockState { commit_state, migrate_type, free, isolated, touched };
                    assert_eq!(PageblockState::from_bits(block_state.bits()), block_state);
                }
            }
        }
        assert_eq!(
            PageblockState::from_bits(0).commit_state,
            CommitState::Offline,
            "a zero word means offline"
        );
    }

    #[test]
    fn flipping_a_range_touches_that_range_only() {
        let blocks = Pageblocks::reserve(2, Backing::Heap).expect("small");
        blocks.flip(Pfn(512 + 60), 70, Occupancy::Free);
        for frame in 512..1024 {
            assert_eq!(blocks.is_free(Pfn(frame)), (572..642).contains(&frame), "frame {frame}");
        }
        assert_eq!(blocks.first_free(BlockIndex(1)), Some(Pfn(572)));
        assert_eq!(blocks.first_free(BlockIndex(0)), None);
        blocks.flip(Pfn(512 + 60), 70, Occupancy::Taken);
        assert_eq!(blocks.first_free(BlockIndex(1)), None);
    }

    #[test]
    #[should_panic(expected = "already Free")]
    fn a_frame_cannot_become_free_twice() {
        let blocks = Pageblocks::reserve(1, Backing::Heap).expect("small");
        blocks.flip(Pfn(3), 1, Occupancy::Free);
        blocks.flip(Pfn(2), 2, Occupancy::Free);
    }
}
