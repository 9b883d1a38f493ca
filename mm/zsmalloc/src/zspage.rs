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

use frames::{ChainId, ChainKind, FRAME_SIZE, FrameChains, Owner, OwnerWords};
use sync::atomic::{AtomicU64, Ordering::Relaxed};
use sys::{Backing, MapError};

use crate::class::{MAX_ZSPAGE_OBJECTS, SizeClass};
use crate::fullness::FullnessGroup;

const MAGIC: u64 = 0x9;
const NONE: u32 = u32::MAX;
const LINK_WORDS: usize = 2;

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
    chains: FrameChains,
}

const fn map_words(kind: ChainKind) -> usize {
    match kind {
        // A zspage of one frame has at most 128 objects of 32 bytes.
        ChainKind::Single => MAX_ZSPAGE_OBJECTS / 2 / 64,
        ChainKind::Multi => MAX_ZSPAGE_OBJECTS / 64,
    }
}

impl Zspages {
    /// Builds the empty tables for at most `limit` chains of each kind.
    pub(crate) fn new(owner: Owner, limit: usize, backing: Backing) -> Result<Self, MapError> {
        let words = |kind| LINK_WORDS + map_words(kind);
        let words = OwnerWords { single: words(ChainKind::Single), multi: words(ChainKind::Multi) };
        Ok(Self { chains: FrameChains::new(owner, limit, words, backing)? })
    }

    /// Returns the chains.
    pub(crate) fn chains(&self) -> &FrameChains {
        &self.chains
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
    fn set_previous(&self, id: u32, previous: ChainId) {
        if id != NONE {
            let id = ChainId::from_bits(id);
            self.set_links(id, previous.to_bits(), self.links(id).1);
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
        let map: [u64; MAX_ZSPAGE_OBJECTS / 64] = self.snapshot(id);
        let mut word = (usize::from(end) / 64).min(map.len() - 1);
        let mut open = if usize::from(end) >= MAX_ZSPAGE_OBJECTS {
            map[word]
        } else {
            map[word] & (bit(end) - 1)
        };
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

    /// Iterates over the live objects in order.
    pub(crate) fn live(
        &self,
        id: ChainId,
        class: SizeClass,
    ) -> impl DoubleEndedIterator<Item = u16> {
        let map: [u64; MAX_ZSPAGE_OBJECTS / 64] = self.snapshot(id);
        (0..class.objects).filter(move |&object| map[usize::from(object) / 64] & bit(object) != 0)
    }

    /// Iterates over the free objects in order.
    pub(crate) fn free(&self, id: ChainId, class: SizeClass) -> impl Iterator<Item = u16> {
        let map: [u64; MAX_ZSPAGE_OBJECTS / 64] = self.snapshot(id);
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

    fn snapshot(&self, id: ChainId) -> [u64; MAX_ZSPAGE_OBJECTS / 64] {
        let mut map = [0; MAX_ZSPAGE_OBJECTS / 64];
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

/// Returns the byte range of the frame at `position`.
pub(crate) fn frame_bytes(position: usize) -> std::ops::Range<usize> {
    position * FRAME_SIZE..(position + 1) * FRAME_SIZE
}

/// Returns the positions of the frames that an object has bytes in.
pub(crate) fn frames_of(class: SizeClass, object: u16) -> std::ops::RangeInclusive<usize> {
    let (size, first) = (usize::from(class.size), usize::from(object) * usize::from(class.size));
    first / FRAME_SIZE..=(first + size - 1) / FRAME_SIZE
}

/// Returns whether freeing a zspage's last object leaves a frame without objects. `below` is the
/// live object before it.
pub(crate) fn empties_frame(class: SizeClass, last: u16, below: Option<u16>) -> bool {
    let end = |object| *frames_of(class, object).end();
    below.is_none_or(|below| end(below) < end(last))
}

/// Doubly linked list of the zspages in one fullness group of a class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ZspageList {
    first: u32,
    len: u32,
}

impl ZspageList {
    /// A list without zspages.
    pub(crate) const EMPTY: Self = Self { first: NONE, len: 0 };

    /// Returns the number of zspages.
    pub(crate) fn len(self) -> u32 {
        self.len
    }

    /// Adds a zspage with `used` live objects: behind the first one if that has more, else in
    /// front. So the fullest zspage is filled next (R-219).
    ///
    /// The rest of the list is unsorted: sorting would read more records than the first, which is
    /// written anyway.
    pub(crate) fn add(&mut self, records: &Zspages, id: ChainId, used: u16) {
        let first = ChainId::from_bits(self.first);
        if self.first != NONE && records.head(first).is_some_and(|head| used < head.used) {
            let (previous, next) = records.links(first);
            records.set_links(id, self.first, next);
            records.set_links(first, previous, id.to_bits());
            records.set_previous(next, id);
        } else {
            records.set_links(id, NONE, self.first);
            records.set_previous(self.first, id);
            self.first = id.to_bits();
        }
        self.len += 1;
    }

    /// Removes a zspage from this list.
    pub(crate) fn remove(&mut self, records: &Zspages, id: ChainId) {
        debug_assert!(self.len > 0, "a zspage is removed from the list it is on");
        let (previous, next) = records.links(id);
        if previous == NONE {
            self.first = next;
        } else {
            let neighbour = ChainId::from_bits(previous);
            records.set_links(neighbour, records.links(neighbour).0, next);
        }
        if next != NONE {
            let neighbour = ChainId::from_bits(next);
            records.set_links(neighbour, previous, records.links(neighbour).1);
        }
        self.len -= 1;
    }

    /// Iterates over the zspages, front to back.
    pub(crate) fn iter(self, records: &Zspages) -> impl Iterator<Item = ChainId> {
        let mut next = self.first;
        std::iter::from_fn(move || {
            let id = (next != NONE).then(|| ChainId::from_bits(next))?;
            next = records.links(id).1;
            Some(id)
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{ChainRule, SizeClasses};
    use frames::{FrameCount, Zone, ZoneConfig};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn records() -> Zspages {
        let zone = Zone::new(ZoneConfig {
            capacity: FrameCount(512),
            backing: Backing::Heap,
            ..ZoneConfig::default()
        });
        let owner = Arc::new(zone.expect("a small zone")).reserve_owner().expect("the only one");
        Zspages::new(owner, 8, Backing::Heap).expect("small tables")
    }

    proptest! {
        #[test]
        fn head_word_round_trips(class: u8, used in 0u16..=256, huge: u32, group in 0usize..crate::FULLNESS_GROUPS) {
            let head = ZspageHead { class, group: FullnessGroup::from_index(group).expect("below the end"), used, huge };
            prop_assert_eq!(ZspageHead::from_bits(head.to_bits()), Some(head));
        }
    }

    /// R-213: one wrong bit in the magic is detected.
    #[test]
    fn r213_a_record_without_magic_is_none() {
        let bits = ZspageHead { class: 3, group: FullnessGroup::FULL, used: 256, huge: u32::MAX }
            .to_bits();
        (0..4).for_each(|flip| assert_eq!(ZspageHead::from_bits(bits ^ 1 << flip), None));
        assert_eq!(ZspageHead::from_bits(0), None);
    }

    /// R-216: exactly the frames without a byte of a live object are empty, for every class and
    /// object.
    #[test]
    fn r216_an_object_occupies_exactly_its_frames() {
        let records = records();
        for class in SizeClasses::new(16, ChainRule::LeastWaste).iter() {
            let id = ChainId::from_bits(if class.frames == 1 { 1 << 30 } else { 0 });
            records.init_record(id, class.index);
            for object in 0..class.objects {
                records.set_live(id, object);
                for position in 0..usize::from(class.frames) {
                    let expected = !frames_of(class, object).contains(&position);
                    assert_eq!(
                        records.frame_is_empty(id, class, position),
                        expected,
                        "{class:?} {object} {position}"
                    );
                }
                records.set_free(id, object);
            }
        }
    }

    #[test]
    fn free_and_live_objects_complete_each_other() {
        let records = records();
        let class = SizeClasses::new(16, ChainRule::LeastWaste)
            .for_len(40)
            .expect("a class of many objects");
        let id = ChainId::from_bits(0);
        records.init_record(id, class.index);
        (0..class.objects).step_by(3).for_each(|object| records.set_live(id, object));
        let mut all: Vec<u16> = records.live(id, class).chain(records.free(id, class)).collect();
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..class.objects));
        for end in [0, 1, 63, 64, 65, 127, 128, class.objects, 255, 256] {
            let below: Vec<u16> =
                records.live(id, class).rev().filter(|&object| object < end).collect();
            assert!(records.live_below(id, end).eq(below), "below {end}");
        }
    }

    /// Adds zspages with these numbers of live objects; the n-th zspage has the number n.
    fn list_of(records: &Zspages, used: &[u16]) -> (ZspageList, Vec<ChainId>) {
        let mut list = ZspageList::EMPTY;
        let ids: Vec<ChainId> = (0..used.len() as u32).map(ChainId::from_bits).collect();
        for (&id, &used) in ids.iter().zip(used) {
            let head = records.init_record(id, 3);
            list.add(records, id, used);
            records.set_head(id, ZspageHead { used, ..head });
        }
        (list, ids)
    }

    /// R-220: the count follows each insertion and removal, at the ends and in the middle.
    #[test]
    fn r220_lists_keep_order_and_count() {
        let records = records();
        let (mut list, ids) = list_of(&records, &[1; 5]);
        assert_eq!(list.len(), 5);
        for (gone, left) in
            [(2, vec![4, 3, 1, 0]), (4, vec![3, 1, 0]), (0, vec![3, 1]), (3, vec![1]), (1, vec![])]
        {
            list.remove(&records, ids[gone]);
            assert_eq!(list.len() as usize, left.len());
            assert!(list.iter(&records).eq(left.iter().map(|&at| ids[at])), "{gone} removed");
        }
    }

    /// R-219: a zspage emptier than the first goes behind it, others in front. Inserting 3, 5a,
    /// 4, 5b, 1 gives 5b, 1, 5a, 4, 3.
    #[test]
    fn r219_the_fullest_zspage_stays_first() {
        let records = records();
        let (list, ids) = list_of(&records, &[3, 5, 4, 5, 1]);
        assert!(list.iter(&records).eq([3, 4, 1, 2, 0].map(|at| ids[at])));
        // The links hold in the other direction, too: each zspage can be removed from its position.
        let mut rest = list;
        [4, 0, 3, 2, 1].iter().for_each(|&at| rest.remove(&records, ids[at]));
        assert_eq!((rest.len(), rest.iter(&records).count()), (0, 0));
    }

    /// R-220: debug builds catch a removal from an empty list.
    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "removed from the list it is on")]
    fn r220_an_empty_list_has_nothing_to_remove() {
        let mut list = ZspageList::EMPTY;
        list.remove(&records(), ChainId::from_bits(0));
    }
}
