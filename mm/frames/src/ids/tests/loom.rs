//! A chunk that is released while another thread allocates an index.

use std::convert::Infallible;
use std::sync::Arc;

use sync::{model, thread};

use super::super::*;

fn take_one(ids: &IdAllocator) -> u32 {
    ids.alloc(|_| Ok::<(), Infallible>(())).expect("room")
}

/// Records are zeroed before an index of their chunk is allocated, or not at all.
#[test]
fn loom_an_index_is_taken_while_its_chunk_is_released() {
    model(|| {
        let ids = Arc::new(IdAllocator::new(CHUNK * 2, 1, Backing::Heap).expect("small tables"));
        let records: Arc<Vec<AtomicU32>> =
            Arc::new((0..CHUNK * 2).map(|_| AtomicU32::new(0)).collect());
        let taken: Vec<u32> = (0..CHUNK * 2).map(|_| take_one(&ids)).collect();
        ids.free_without_release(taken[CHUNK]);
        taken[..CHUNK].iter().for_each(|&index| ids.free_without_release(index));
        let kept = take_one(&ids);
        let taker = {
            let (ids, records) = (Arc::clone(&ids), Arc::clone(&records));
            thread::spawn(move || {
                let index = take_one(&ids);
                records[index as usize].store(1, Relaxed);
                index
            })
        };
        ids.release_emptied(|first| {
            records[first..first + CHUNK].iter().for_each(|word| word.store(0, Relaxed))
        });
        let index = taker.join().expect("the taker ends");
        assert_ne!(index, kept, "an index is allocated once");
        assert_eq!(
            records[index as usize].load(Relaxed),
            1,
            "a record is zeroed after its index was allocated"
        );
    });
}
