//! The handle table under loom: a thread that loads a handle's word, its length and its word
//! again has the length of that generation.

use std::sync::Arc;

use frames::ChainId;
use sync::thread;

use super::super::*;

fn zone() -> Arc<Zone> {
    crate::tests::zone(8, Backing::Heap)
}

fn place(handle: Handle) -> Location {
    Location::live(ChainId::from_bits(0), 0, handle.generation())
}

/// L-11: a reader races with a free and with the next object of the same index, which has another
/// length.
#[test]
fn l11_a_length_belongs_to_its_generation() {
    const LENS: [usize; 2] = [28, 5];
    sync::model(|| {
        let handles = Arc::new(
            Handles::new(zone(), CHUNK, MAX_GENERATION, Backing::Heap).expect("a small table"),
        );
        let first = handles.reserve().expect("all are free");
        handles.publish(first, place(first), LENS[0]);
        let other = {
            let handles = Arc::clone(&handles);
            // The table alone, not a pool's free and store: a free loads the length itself, and
            // loom remembers only the last load of a word.
            thread::spawn(move || {
                handles.invalidate(first);
                handles.free_index(first);
                let second = handles.reserve().expect("the same index");
                assert_eq!(
                    (second.index(), second.generation()),
                    (first.index(), first.generation() + 1)
                );
                handles.publish(second, place(second), LENS[1]);
                second
            })
        };
        if let Ok(location) = handles.locate(first) {
            let len = handles.len_of(first);
            if handles.locate(first) == Ok(location) {
                assert_eq!(len, LENS[0], "the length of another object");
            }
        }
        let second = other.join().expect("no panic");
        assert_eq!(handles.len_of(second), LENS[1]);
    });
}

/// Returns a table of two shards with one chunk each. The model's thread uses the first.
fn two_shards() -> Arc<Handles> {
    sync::set_shards(2);
    let handles =
        Handles::new(zone(), 2 * CHUNK, MAX_GENERATION, Backing::Heap).expect("a small table");
    assert_eq!(sync::this_shard(2), 0, "the model's thread has the first shard");
    Arc::new(handles)
}

/// Reserves an index and publishes its handle.
fn publish(handles: &Handles) -> Handle {
    let handle = handles.reserve().expect("free indices are left");
    handles.publish(handle, place(handle), 28);
    handle
}

/// Frees a live handle, as `Pool::free` does.
fn free(handles: &Handles, handle: Handle) {
    handles.invalidate(handle);
    handles.free_index(handle);
}

fn shard_of(handle: Handle) -> usize {
    handle.index() as usize / CHUNK % 2
}

/// The first shard is full, so its thread takes an index of the second shard, while the second
/// shard's thread takes one, too. Each gets its own.
#[test]
fn a_full_shard_takes_from_the_other_one() {
    sync::model(|| {
        let handles = two_shards();
        let held: Vec<Handle> = (0..CHUNK).map(|_| publish(&handles)).collect();
        assert!(held.iter().all(|&handle| shard_of(handle) == 0));
        let other = {
            let handles = Arc::clone(&handles);
            thread::spawn(move || publish(&handles))
        };
        let (mine, theirs) = (publish(&handles), other.join().expect("no panic"));
        assert_eq!((shard_of(mine), shard_of(theirs)), (1, 1));
        assert_ne!(mine.index(), theirs.index());
        assert!([mine, theirs].iter().chain(&held).all(|&handle| handles.locate(handle).is_ok()));
        assert_eq!(handles.live().count(), CHUNK + 2);
    });
}

/// A thread frees an index of the first shard while the first shard's thread reserves one. The
/// reserving thread gets that index or one of the second shard, and the freed handle stays stale.
#[test]
fn an_index_freed_in_the_other_shard_is_taken_once() {
    sync::model(|| {
        let handles = two_shards();
        let held: Vec<Handle> = (0..CHUNK).map(|_| publish(&handles)).collect();
        let freed = held[1];
        let other = {
            let handles = Arc::clone(&handles);
            thread::spawn(move || {
                assert_eq!(sync::this_shard(2), 1);
                free(&handles, freed);
                publish(&handles)
            })
        };
        let (mine, theirs) = (publish(&handles), other.join().expect("no panic"));
        assert_eq!(
            shard_of(theirs),
            1,
            "a thread takes from its own shard while it has free indices"
        );
        assert_ne!(mine.index(), theirs.index());
        assert!(mine.index() == freed.index() || shard_of(mine) == 1);
        assert_eq!(handles.locate(freed), Err(AccessError::Stale));
        assert_eq!(handles.live().count(), CHUNK + 1);
        free(&handles, mine);
        free(&handles, theirs);
        assert_eq!(handles.live().count(), CHUNK - 1);
    });
}
