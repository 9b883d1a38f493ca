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
