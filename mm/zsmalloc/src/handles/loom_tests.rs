//! The table's own protocol under loom: who looks at a handle's word, its length and its word again has the length of that generation.

use std::sync::Arc;

use frames::{ExtentId, FrameCount, ZoneConfig};
use sync::thread;

use super::*;

fn zone() -> Arc<Zone> {
    let config = ZoneConfig { capacity: FrameCount(8), backing: Backing::Heap, ..ZoneConfig::default() };
    Arc::new(Zone::new(config).expect("a tiny zone"))
}

fn place(handle: Handle) -> Location {
    Location::live(ExtentId::from_bits(0), 0, handle.generation())
}

/// L-11: a reader meets a free and the next object of the same index, which has another length.
#[test]
fn l11_a_length_belongs_to_its_generation() {
    const LENS: [usize; 2] = [28, 5];
    sync::model(|| {
        let handles = Arc::new(Handles::new(zone(), CHUNK, LAST_GENERATION, Backing::Heap).expect("a small table"));
        let first = handles.reserve().expect("all are free");
        handles.publish(first, place(first), LENS[0]);
        let other = {
            let handles = Arc::clone(&handles);
            // The table alone, not a pool's free and store: a free looks at the length itself, and loom remembers only the last look at a word.
            thread::spawn(move || {
                handles.bury(first);
                handles.give_back(first);
                let second = handles.reserve().expect("the same index");
                assert_eq!((second.index(), second.generation()), (first.index(), first.generation() + 1));
                handles.publish(second, place(second), LENS[1]);
                second
            })
        };
        if let Ok(location) = handles.locate(first) {
            let len = handles.len_of(first);
            if handles.locate(first) == Ok(location) {
                assert_eq!(len, LENS[0], "a length of another object");
            }
        }
        let second = other.join().expect("no panic");
        assert_eq!(handles.len_of(second), LENS[1]);
    });
}
