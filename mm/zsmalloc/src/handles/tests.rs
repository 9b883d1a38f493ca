//! Generations of indices, also when their chunks are freed and used again.

use std::collections::HashSet;

use super::*;
use crate::tests::zone;
use crate::{Pool, PoolConfig};

fn table(chunks: usize, max_generation: u32) -> Handles {
    let zone = zone(512, Backing::Heap);
    Handles::new(zone, chunks * CHUNK, max_generation, Backing::Heap).expect("a small table")
}

fn reserve_all(handles: &Handles) -> Vec<Handle> {
    std::iter::from_fn(|| handles.reserve().ok()).collect()
}

fn free_all(handles: &Handles, all: &[Handle]) {
    all.iter().for_each(|&handle| handles.invalidate(handle));
    all.iter().for_each(|&handle| handles.free_index(handle));
}

/// R-289, L-11: an index whose last generation was used is never reserved again, also after its
/// chunk was empty.
#[test]
fn r289_an_index_with_no_generation_left_is_retired() {
    let handles = table(1, MAX_GENERATION);
    let first = handles.reserve().expect("all are free");
    let index = first.index() as usize;
    handles.words[index].store(Location::dead(MAX_GENERATION).0, Ordering::Relaxed);
    handles.free_index(first);
    let mut had = 0;
    while let Ok(handle) = handles.reserve() {
        assert!(
            handle.index() != first.index() && handle.generation() <= MAX_GENERATION,
            "{handle:?}"
        );
        had += 1;
    }
    assert_eq!(had, handles.ids.capacity() - 1);
}

/// R-289, L-11: the words of an empty chunk go back to the OS, and none of its handles is valid
/// again.
#[test]
fn r289_generations_outlive_the_memory_of_their_chunk() {
    let handles = table(4, MAX_GENERATION);
    let first = reserve_all(&handles);
    free_all(&handles, &first);
    assert!(
        first
            .iter()
            .any(|handle| handles.words[handle.index() as usize].load(Ordering::Relaxed) == 0)
    );
    let second = reserve_all(&handles);
    assert_eq!(second.len(), first.len());
    assert!(
        second.iter().all(|handle| handle.generation() == 2),
        "each index is in its second use"
    );
}

/// A vacant chunk keeps its words when one floor for all would cost too many generations. These
/// words are counted while the chunk is vacant, and once.
#[test]
fn words_kept_by_a_vacant_chunk_are_counted() {
    let handles = table(4, 4);
    for generation in 1..=4 {
        let all = reserve_all(&handles);
        let full = handles.bytes();
        assert_eq!((all.len(), handles.kept.load(Ordering::Relaxed)), (handles.ids.capacity(), 0));
        free_all(&handles, &all);
        let given_back = generation <= 2;
        assert_eq!(handles.bytes() < full, given_back, "generation {generation} of 4");
        if !given_back {
            assert_eq!(handles.bytes(), full);
            assert!(
                all.iter()
                    .all(|handle| handles.words[handle.index() as usize].load(Ordering::Relaxed)
                        != 0)
            );
        }
    }
    assert_eq!(handles.reserve(), Err(AllocError::Numbers), "all generations are used up");
}

/// R-289, L-11: a pool without free generations refuses new objects, never returned a handle
/// twice, and keeps its objects.
#[test]
fn r289_a_pool_without_generations_refuses_objects() {
    const GENERATIONS: u32 = 3;
    let config = PoolConfig {
        max_objects: Some(CHUNK as u32),
        backing: Backing::Heap,
        ..PoolConfig::default()
    };
    let pool = Pool::with_max_generation(zone(512, Backing::Heap), config, GENERATIONS)
        .expect("small tables");
    let kept = pool.store(b"kept").expect("room");
    let mut had = HashSet::from([kept]);
    let refused = loop {
        match pool.store(b"short-lived") {
            Ok(handle) => {
                assert!(had.insert(handle), "{handle:?} was returned before");
                assert_eq!(pool.free(handle), Ok(11));
            }
            Err(error) => break error,
        }
    };
    assert_eq!(refused, AllocError::Numbers);
    let others = pool.handles.ids.capacity() - 1;
    assert_eq!(had.len(), 1 + others * GENERATIONS as usize);
    assert!(
        had.into_iter().filter(|&handle| handle != kept).all(|handle| pool.read(handle).is_err())
    );
    pool.write(kept, b"more").expect("in place");
    assert_eq!(pool.read(kept).map(|object| object.to_vec()), Ok(b"more".to_vec()));
    assert_eq!(pool.frames(), 1);
    pool.check().expect("consistent");
    // The index has two uses left.
    for _ in 1..GENERATIONS {
        let last = pool.handles.locate_index(kept.index()).map(|(handle, _)| handle).expect("live");
        assert_eq!(pool.free(last), Ok(4));
        pool.store(b"last").expect("the index that came free");
    }
    assert_eq!(pool.store(b"one more"), Err(AllocError::Numbers));
}
