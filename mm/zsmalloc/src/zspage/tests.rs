//! Records and lists of zspages.

use frames::ChainId;
use proptest::prelude::*;
use sys::Backing;

use super::*;
use crate::tests::zone;
use crate::{ChainRule, FullnessGroup, SizeClasses};

fn records() -> Zspages {
    let owner = zone(512, Backing::Heap).reserve_owner().expect("the only one");
    Zspages::new(owner, 8, Backing::Heap).expect("small tables")
}

proptest! {
    #[test]
    fn head_word_round_trips(class: u8, used in 0u16..=256, huge: u32, group in 0usize..crate::FULLNESS_GROUPS) {
        let head = ZspageHead { class, group: FullnessGroup::from_index(group).expect("below the end"), used, huge };
        prop_assert_eq!(ZspageHead::from_bits(head.to_bits()), Some(head));
    }
}

/// one wrong bit in the magic is detected.
#[test]
fn r213_a_record_without_magic_is_none() {
    let bits =
        ZspageHead { class: 3, group: FullnessGroup::FULL, used: 256, huge: u32::MAX }.to_bits();
    (0..4).for_each(|flip| assert_eq!(ZspageHead::from_bits(bits ^ 1 << flip), None));
    assert_eq!(ZspageHead::from_bits(0), None);
}

/// exactly the frames without a byte of a live object are empty, for every class and
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
                let expected = !class.frames_of(object).contains(&position);
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
    let class =
        SizeClasses::new(16, ChainRule::LeastWaste).for_len(40).expect("a class of many objects");
    let id = ChainId::from_bits(0);
    records.init_record(id, class.index);
    (0..class.objects).step_by(3).for_each(|object| records.set_live(id, object));
    let live = || (0..class.objects).filter(|&object| records.is_live(id, object));
    let mut all: Vec<u16> = live().chain(records.free(id, class)).collect();
    all.sort_unstable();
    assert!(all.iter().copied().eq(0..class.objects));
    for end in [0, 1, 63, 64, 65, 127, 128, class.objects, 255, 256] {
        let below: Vec<u16> = live().rev().filter(|&object| object < end).collect();
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

/// the count follows each insertion and removal, at the ends and in the middle.
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

/// a zspage emptier than the first goes behind it, others in front. Inserting 3, 5a,
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

/// debug builds catch a removal from an empty list.
#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "removed from the list it is on")]
fn r220_an_empty_list_has_nothing_to_remove() {
    let mut list = ZspageList::EMPTY;
    list.remove(&records(), ChainId::from_bits(0));
}

/// groups keep the order of use, for every number of objects a zspage can have.
#[test]
fn r218_groups_rise_with_use_and_the_ends_are_exact() {
    for objects in 1..=256 {
        assert_eq!(FullnessGroup::of(0, objects), FullnessGroup::EMPTY);
        assert_eq!(FullnessGroup::of(objects, objects), FullnessGroup::FULL);
        for used in 1..objects {
            let group = FullnessGroup::of(used, objects);
            assert!(
                FullnessGroup::EMPTY < group && group < FullnessGroup::FULL,
                "{used} of {objects}"
            );
            assert!(FullnessGroup::of(used - 1, objects) <= group);
        }
    }
    assert_eq!(FullnessGroup::of(35, 36).index(), 10);
    assert_eq!(FullnessGroup::of(1, 36).index(), 1);
}
