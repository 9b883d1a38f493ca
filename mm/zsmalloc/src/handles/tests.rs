use super::*;

/// R-289, L-11: an index that has seen its last generation is never given out again, also when its chunk was empty in between.
#[test]
fn r289_an_index_with_no_generation_left_is_retired() {
    let handles = Handles::new(CHUNK, Backing::Heap).expect("a small table");
    let first = handles.reserve().expect("all are free");
    let index = first.index() as usize;
    handles.words[index].store(Location::dead(LAST_GENERATION).to_bits(), Ordering::Relaxed);
    handles.give_back(first);
    let mut had = 0;
    while let Some(handle) = handles.reserve() {
        assert!(handle.index() != first.index() && handle.generation() <= LAST_GENERATION, "{handle:?}");
        had += 1;
    }
    assert_eq!(had, handles.ids.capacity() - 1);
}

/// R-289, L-11: the words of a chunk that is empty go back to the OS, and none of the handles they stood for comes again.
#[test]
fn r289_generations_outlive_the_memory_of_their_chunk() {
    let handles = Handles::new(4 * CHUNK, Backing::Heap).expect("a small table");
    let all = || -> Vec<Handle> { std::iter::from_fn(|| handles.reserve()).collect() };
    let first = all();
    first.iter().for_each(|&handle| handles.bury(handle));
    first.iter().for_each(|&handle| handles.give_back(handle));
    assert!(first.iter().any(|handle| handles.words[handle.index() as usize].load(Ordering::Relaxed) == 0));
    let second = all();
    assert_eq!(second.len(), first.len());
    assert!(second.iter().all(|handle| handle.generation() == 2), "each index is in its second use");
}
