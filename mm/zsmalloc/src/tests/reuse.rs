//! An empty zspage that waits to be freed is reused (S-15, R-280).

use super::pool;
use crate::zspage::FullnessGroup;

/// The last object is freed while a reader holds the zspage, so the empty zspage stays. The
/// reader leaves. Before its thread takes the class lock to free the zspage, another object is
/// allocated in it. The reader's thread then finds nothing to free.
#[test]
fn s15_an_empty_zspage_is_reused_before_it_is_freed() {
    let pool = pool(512);
    let first = pool.store(&[1; 1000]).expect("room");
    let reader = pool.read(first).expect("live");
    pool.free(first).expect("live");
    let class = pool.classes.for_len(1000).expect("a legal length");
    let second = pool.handles.reserve().expect("a number");
    std::thread::scope(|scope| {
        let mut state = pool.lock(class);
        let empty = state.lists()[FullnessGroup::EMPTY.index()];
        assert_eq!((empty.len(), state.counters().zspages), (1, 1));
        let leaving = scope.spawn(move || drop(reader));
        // No slot is free until the reader has released the zspage.
        let slot = loop {
            match state.find_zspage() {
                Ok(Some((slot, held))) => {
                    // The mark was set before the reader left: the reader does its work.
                    let _ = held.release();
                    break slot;
                }
                Ok(None) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        let unpublished =
            state.alloc_object(second, 1000, None).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            (unpublished.slot.chain, state.counters().zspages),
            (slot.chain, 1),
            "no other zspage was created"
        );
        drop(state);
        let written = unpublished.write(&[2; 1000]).expect("the zspage is intact");
        written.expect("sound memory").publish();
        leaving.join().expect("no panic");
    });
    assert_eq!(pool.read(second).expect("live").to_vec(), [2; 1000]);
    assert!(pool.read(first).is_err());
    pool.check().expect("consistent");
    pool.free(second).expect("live");
    assert_eq!(pool.frames(), 0);
}
