//! Zspage records: the metadata of a zspage, beside its frames.
//!
//! A zspage has the number of its chain. Its record is a few plain words in the chain table's
//! owner words. They are read and written under the lock of the class only:
//!
//! ```text
//!  word 0   63 57 56                25 24      16 15    12 11     4 3  0
//!          +-----+--------------------+----------+--------+--------+----+
//!          | 0   | huge handle (32)   | used (9) | group  | class  | m  |
//!          +-----+--------------------+----------+--------+--------+----+
//!  word 1   previous (32) | next (32) in the list of its group
//!  word 2.. the free map: one bit an object, set = live
//! ```
//! `m` is the magic number of a zspage in use; a record without it is damaged (R-213, C-04).

mod fullness;

use frames::{ChainId, FRAME_SIZE, FrameChains, Owner, OwnerWords};
use sync::atomic::{AtomicU64, Ordering::Relaxed};
use sys::{Backing, MapError};

use crate::class::{MAX_ZSPAGE_OBJECTS, SizeClass};
pub use fullness::{FULLNESS_GROUPS, FullnessGroup};

const MAGIC: u64 = 0x9;
/// Link at the end of a list.
const NONE: u32 = u32::MAX;
/// Words before the free map: the head and the links.
const LINK_WORDS: usize = 2;
const MAP_WORDS: usize = MAX_ZSPAGE_OBJECTS / 64;

/// Head word of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ZspageHead {
    pub(crate) class: u8,
    pub(crate) group: FullnessGroup,
    pub(crate) used: u16,
    /// Handle index of the only object, where there is no header.
    pub(crate) huge: u32,
}

impl ZspageHead {
    fn to_bits(self) -> u64 {
        u64::from(self.huge) << 25
            | u64::from(self.used) << 16
            | (self.group.index() as u64) << 12
            | u64::from(self.class) << 4
            | MAGIC
    }

    fn from_bits(bits: u64) -> Option<Self> {
        let group = FullnessGroup::from_index((bits >> 12 & 0xf) as usize)?;
        (bits & 0xf == MAGIC).then_some(Self {
            class: (bits >> 4) as u8,
            group,
            used: (bits >> 16) as u16 & 0x1ff,
            huge: (bits >> 25) as u32,
        })
    }
}

/// The zspages of a pool: its chains and their records.
#[derive(Debug)]
pub(crate) struct Zspages {
    pub(crate) chains: FrameChains,
}

impl Zspages {
    /// Builds the empty tables for at most `limit` chains of each kind.
    pub(crate) fn new(owner: Owner, limit: usize, backing: Backing) -> Result<Self, MapError> {
        // A zspage of one frame has at most 128 objects of 32 bytes.
        let words =
            OwnerWords { single: LINK_WORDS + MAP_WORDS / 2, multi: LINK_WORDS + MAP_WORDS };
        Ok(Self { chains: FrameChains::new(owner, limit, words, backing)? })
    }

    fn record(&self, id: ChainId) -> &[AtomicU64] {
        self.chains.owner_words(id)
    }

    // Relaxed throughout this file: records are read and written under their class lock only.

    /// Returns the head of a zspage, or `None` when no zspage has this number.
    pub(crate) fn head(&self, id: ChainId) -> Option<ZspageHead> {
        ZspageHead::from_bits(self.record(id).first()?.load(Relaxed))
    }

    /// Stores the head of a zspage.
    pub(crate) fn set_head(&self, id: ChainId, head: ZspageHead) {
        self.record(id)[0].store(head.to_bits(), Relaxed);
    }

    /// Initializes the record of a new zspage without objects, on no list. Returns its head.
    pub(crate) fn init_record(&self, id: ChainId, class: u8) -> ZspageHead {
        let head = ZspageHead { class, group: FullnessGroup::EMPTY, used: 0, huge: 0 };
        self.set_head(id, head);
        self.record(id)[LINK_WORDS..].iter().for_each(|word| word.store(0, Relaxed));
        head
    }

    /// Clears a record: the number names no zspage any more.
    pub(crate) fn clear_record(&self, id: ChainId) {
        self.record(id).iter().for_each(|word| word.store(0, Relaxed));
    }

    /// Returns the neighbours in the zspage's list: previous, next.
    fn links(&self, id: ChainId) -> (u32, u32) {
        let bits = self.record(id)[1].load(Relaxed);
        ((bits >> 32) as u32, bits as u32)
    }

    fn set_links(&self, id: ChainId, previous: u32, next: u32) {
        self.record(id)[1].store(u64::from(previous) << 32 | u64::from(next), Relaxed);
    }

    /// Sets the previous link of the zspage `id`. Does nothing for [`NONE`], the end of a list.
    fn set_previous(&self, id: u32, previous: u32) {
        if id != NONE {
            let id = ChainId::from_bits(id);
            self.set_links(id, previous, self.links(id).1);
        }
    }

    /// Sets the next link like [`Zspages::set_previous`].
    fn set_next(&self, id: u32, next: u32) {
        if id != NONE {
            let id = ChainId::from_bits(id);
            self.set_links(id, self.links(id).0, next);
        }
    }

    /// Returns whether the object is live.
    pub(crate) fn is_live(&self, id: ChainId, object: u16) -> bool {
        self.map(id)
            .get(usize::from(object) / 64)
            .is_some_and(|word| word.load(Relaxed) & bit(object) != 0)
    }

    /// Marks the object live.
    pub(crate) fn set_live(&self, id: ChainId, object: u16) {
        let word = &self.map(id)[usize::from(object) / 64];
        word.store(word.load(Relaxed) | bit(object), Relaxed);
    }

    /// Marks the object free.
    pub(crate) fn set_free(&self, id: ChainId, object: u16) {
        let word = &self.map(id)[usize::from(object) / 64];
        word.store(word.load(Relaxed) & !bit(object), Relaxed);
    }

    fn map(&self, id: ChainId) -> &[AtomicU64] {
        self.record(id).get(LINK_WORDS..).unwrap_or(&[])
    }

    /// Iterates over the live objects before `end`, last first.
    pub(crate) fn live_below(&self, id: ChainId, end: u16) -> impl Iterator<Item = u16> {
        let map = self.snapshot(id);
        let mut word = (usize::from(end) / 64).min(MAP_WORDS - 1);
        let all = usize::from(end) >= MAX_ZSPAGE_OBJECTS;
        let mut open = map[word] & if all { u64::MAX } else { bit(end) - 1 };
        std::iter::from_fn(move || {
            while open == 0 {
                word = word.checked_sub(1)?;
                open = map[word];
            }
            let place = open.ilog2();
            open &= !(1 << place);
            Some(word as u16 * 64 + place as u16)
        })
    }

    /// Iterates over the free objects in order.
    pub(crate) fn free(&self, id: ChainId, class: SizeClass) -> impl Iterator<Item = u16> {
        let map = self.snapshot(id);
        let mut word = 0;
        let mut open = !map[0];
        std::iter::from_fn(move || {
            while open == 0 {
                word += 1;
                open = !*map.get(word)?;
            }
            let object = word as u16 * 64 + open.trailing_zeros() as u16;
            open &= open - 1;
            (object < class.objects).then_some(object)
        })
    }

    fn snapshot(&self, id: ChainId) -> [u64; MAP_WORDS] {
        let mut map = [0; MAP_WORDS];
        map.iter_mut().zip(self.map(id)).for_each(|(copy, word)| *copy = word.load(Relaxed));
        map
    }

    /// Returns whether no live object has a byte in the frame at `position`.
    pub(crate) fn frame_is_empty(&self, id: ChainId, class: SizeClass, position: usize) -> bool {
        let size = usize::from(class.size);
        let first = position * FRAME_SIZE / size;
        let end = (((position + 1) * FRAME_SIZE - 1) / size + 1).min(usize::from(class.objects));
        let map = self.map(id);
        (first / 64..end.div_ceil(64)).all(|word| {
            let from = u64::MAX << first.saturating_sub(word * 64);
            let to = u64::MAX >> ((word + 1) * 64).saturating_sub(end);
            map.get(word).is_none_or(|live| live.load(Relaxed) & from & to == 0)
        })
    }

    /// Prefetches the record of the next zspage in the list.
    pub(crate) fn prefetch_next(&self, id: ChainId) {
        let next = self.links(id).1;
        if next != NONE {
            self.chains.prefetch(ChainId::from_bits(next));
        }
    }
}

fn bit(object: u16) -> u64 {
    1 << (object % 64)
}

// This uses `Zspages`.
mod list;

pub(crate) use list::ZspageList;

#[cfg(all(test, not(loom)))]
mod tests;
