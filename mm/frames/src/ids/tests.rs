//! The allocator against a plain set.

use std::collections::BTreeSet;
use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

fn take_one(ids: &IdAllocator) -> Option<u32> {
    ids.alloc(|_| Ok::<(), Infallible>(())).ok()
}

/// A refused chunk stays closed, and open chunks can still be used.
#[test]
fn a_refused_chunk_changes_nothing() {
    let ids = IdAllocator::new(CHUNK * 2, 1, Backing::Heap).expect("small tables");
    assert_eq!(ids.alloc(|_| Err("no")), Err(AllocIdError::Refused("no")));
    assert_eq!((ids.open_chunks(), ids.metadata_bytes()), (0, 0));
    (0..CHUNK).for_each(|_| _ = take_one(&ids).expect("room"));
    let seen = std::cell::Cell::new(None);
    let refuse = |opening| {
        seen.set(Some(opening));
        Err("no")
    };
    assert_eq!(ids.alloc(refuse), Err(AllocIdError::Refused("no")));
    assert_eq!(seen.get(), Some(NewChunk { first: CHUNK, set_bytes: SET_BYTES }));
    ids.free(7, |_| ());
    assert_eq!(ids.alloc(refuse), Ok(7));
    assert_eq!((ids.open_chunks(), ids.metadata_bytes() as u64), (1, SET_BYTES));
}

#[test]
fn every_index_is_allocated_once_and_then_none() {
    let ids = IdAllocator::new(CHUNK * 3, 1, Backing::Heap).expect("small tables");
    let taken: BTreeSet<u32> = std::iter::from_fn(|| take_one(&ids)).collect();
    assert_eq!(taken.len(), CHUNK * 3);
    assert_eq!(taken.last(), Some(&(CHUNK as u32 * 3 - 1)));
}

#[test]
fn an_emptied_chunk_is_reused_before_a_fresh_one() {
    let ids = IdAllocator::new(CHUNK * 4, 1, Backing::Heap).expect("small tables");
    let taken: Vec<u32> = (0..CHUNK * 2).map(|_| take_one(&ids).expect("room")).collect();
    let mut emptied = Vec::new();
    for &index in &taken[..CHUNK] {
        ids.free(index, |first| emptied.push(first));
    }
    // The second chunk is full, so the first is the only open one and stays.
    assert_eq!((emptied.len(), ids.open_chunks()), (0, 2));
    ids.free(taken[CHUNK], |first| emptied.push(first));
    ids.free(take_one(&ids).expect("room"), |first| emptied.push(first));
    for &index in &taken[CHUNK + 1..] {
        ids.free(index, |first| emptied.push(first));
    }
    assert_eq!(ids.open_chunks(), 1);
    assert_eq!(emptied.len(), 1);
    assert!(
        (0..CHUNK * 2).all(|_| take_one(&ids).is_some_and(|index| (index as usize) < CHUNK * 2))
    );
}

/// While a chunk is released, other threads allocate and free indices.
#[test]
fn no_lock_is_held_while_records_are_released() {
    let ids = IdAllocator::new(CHUNK * 2, 1, Backing::Heap).expect("small tables");
    let taken: Vec<u32> = std::iter::from_fn(|| take_one(&ids)).collect();
    taken[CHUNK + 1..].iter().for_each(|&index| ids.free(index, |_| ()));
    let mut seen = None;
    for &index in &taken[..CHUNK] {
        ids.free(index, |first| {
            let other = take_one(&ids).expect("the other chunk has room");
            assert!(other as usize >= CHUNK, "{other} is in the chunk that is being released");
            ids.free(other, |_| ());
            seen = Some(first);
        });
    }
    assert_eq!((seen, ids.open_chunks()), (Some(0), 1));
    assert!(take_one(&ids).is_some());
}

/// A thread with a lock leaves a chunk that it emptied in a queue. The chunk is used again as it
/// is, or released, one chunk a call.
#[test]
fn an_emptied_chunk_waits_in_a_queue() {
    let ids = IdAllocator::new(CHUNK * 3, 1, Backing::Heap).expect("small tables");
    let taken: Vec<u32> = std::iter::from_fn(|| take_one(&ids)).collect();
    taken[..CHUNK * 2].iter().for_each(|&index| ids.free_without_release(index));
    assert_eq!(ids.open_chunks(), 3, "the first chunk, which stayed open, and the third one");
    let mut released = Vec::new();
    taken[CHUNK * 2..].iter().for_each(|&index| ids.free_without_release(index));
    assert!(ids.release_emptied(|first| released.push(first)));
    assert_eq!((released.len(), ids.open_chunks()), (1, 2));
    assert_eq!(std::iter::from_fn(|| take_one(&ids)).count(), CHUNK * 3);
    assert!(!ids.release_emptied(|_| panic!("no chunk is empty")));
}

proptest! {
    // Miri takes a thousand times as long and checks the accesses, not the logic.
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn agrees_with_a_set(ops in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..2000), shards in 1usize..4) {
        let ids = IdAllocator::new(CHUNK * 4, shards, Backing::Heap).expect("small tables");
        let mut model = Vec::new();
        for (take, which) in ops {
            if take || model.is_empty() {
                if let Some(index) = take_one(&ids) {
                    prop_assert!(!model.contains(&index));
                    model.push(index);
                }
            } else {
                let index = model.swap_remove(which.index(model.len()));
                ids.free(index, |_| ());
                prop_assert!(!ids.is_taken(index));
            }
        }
        prop_assert!(model.iter().all(|&index| ids.is_taken(index)));
    }
}
