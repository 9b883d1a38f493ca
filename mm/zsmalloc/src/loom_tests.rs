//! The pool's protocols under loom, with the real code on 64-byte frames: every interleaving of two threads (bounded preemptions).
//!
//! The shadow cells behind the frames make loom check each access to bytes: a read that is not ordered after the write it sees fails the run.

use std::sync::Arc;

use frames::{FrameCount, Zone, ZoneConfig};
use sync::thread;
use sys::Backing;

use crate::{AccessError, Budget, Compaction, Handle, Outcome, Pool, PoolConfig};

fn pool() -> Arc<Pool> {
    let zone = Zone::new(ZoneConfig { capacity: FrameCount(8), backing: Backing::Heap, ..ZoneConfig::default() });
    let config = PoolConfig { chain: 2, max_objects: Some(4), backing: Backing::Heap, ..PoolConfig::default() };
    Pool::new(Arc::new(zone.expect("a small zone")), config).expect("a small pool")
}

/// Half a frame: two to a zspage of one frame.
const LEN: usize = 28;

fn object(byte: u8) -> [u8; LEN] {
    [byte; LEN]
}

fn read(pool: &Pool, handle: Handle) -> Result<Vec<u8>, AccessError> {
    pool.read(handle).map(|object| object.to_vec())
}

/// S-01, S-04, S-12: a read meets a free and the next object in the same place. It gets its own bytes or a stale handle.
#[test]
fn s01_read_against_free_and_reuse() {
    sync::model(|| {
        let pool = pool();
        let handle = pool.store(&object(1)).expect("room");
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                pool.free(handle).expect("live");
                pool.store(&object(2)).expect("room")
            })
        };
        match read(&pool, handle) {
            Ok(bytes) => assert_eq!(bytes, object(1)),
            Err(error) => assert_eq!(error, AccessError::Stale),
        }
        let second = other.join().expect("no panic");
        assert_eq!(read(&pool, second).expect("live"), object(2));
        pool.free(second).expect("live");
        // R-417, S-13: whoever was inside last has given the frame back.
        assert_eq!(pool.frames(), 0);
        pool.check().expect("consistent");
    });
}

/// The same with another length: the length a read uses is that of the object it found.
#[test]
fn l11_a_length_belongs_to_its_generation() {
    sync::model(|| {
        let pool = pool();
        let handle = pool.store(&object(1)).expect("room");
        // A neighbour keeps the frame, so that the free takes no lock the reader would meet.
        pool.store(&object(3)).expect("room");
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                pool.free(handle).expect("live");
                pool.store(&[2; 5]).expect("room")
            })
        };
        match read(&pool, handle) {
            Ok(bytes) => assert_eq!(bytes, object(1)),
            Err(error) => assert_eq!(error, AccessError::Stale),
        }
        other.join().expect("no panic");
        pool.check().expect("consistent");
    });
}

/// S-21, S-25, S-50, B5: a read meets a compaction that moves its object. It gets the bytes, from the old place or the new one.
#[test]
fn s21_read_against_compaction() {
    sync::model(|| {
        let pool = pool();
        let [first, second, third] = [1, 2, 3].map(|byte| pool.store(&object(byte)).expect("room"));
        pool.free(first).expect("live");
        let compactor = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.compact(&Budget::unlimited()))
        };
        assert_eq!(read(&pool, second), Ok(object(2).to_vec()));
        assert_eq!(read(&pool, third), Ok(object(3).to_vec()));
        compactor.join().expect("no panic");
        pool.compact(&Budget::unlimited());
        assert_eq!(pool.frames(), 1);
        assert_eq!(read(&pool, third), Ok(object(3).to_vec()));
        pool.check().expect("consistent");
    });
}

/// B5, S-50: a free meets a compaction that moves the very object. It is freed once, wherever it was.
#[test]
fn b5_free_against_compaction() {
    sync::model(|| {
        let pool = pool();
        let [first, second, third] = [1, 2, 3].map(|byte| pool.store(&object(byte)).expect("room"));
        pool.free(first).expect("live");
        let compactor = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.compact(&Budget::unlimited()))
        };
        assert_eq!(pool.free(third), Ok(LEN));
        assert_eq!(pool.free(third), Err(AccessError::Stale));
        compactor.join().expect("no panic");
        assert_eq!(read(&pool, second), Ok(object(2).to_vec()));
        pool.free(second).expect("live");
        assert_eq!(pool.frames(), 0);
        pool.check().expect("consistent");
    });
}

/// S-50, B5, B13b: the same for the object that compaction takes first, whichever of the two that is.
#[test]
fn s50_free_of_the_object_that_moves() {
    for victim in [0, 1] {
        sync::model(move || {
            let pool = pool();
            let [first, second, third] = [1, 2, 3].map(|byte| pool.store(&object(byte)).expect("room"));
            pool.free(first).expect("live");
            let left = [second, third];
            let compactor = {
                let pool = Arc::clone(&pool);
                thread::spawn(move || pool.compact(&Budget::unlimited()))
            };
            assert_eq!(pool.free(left[victim]), Ok(LEN), "freed where it is by now");
            compactor.join().expect("no panic");
            assert_eq!(pool.free(left[1 - victim]), Ok(LEN));
            assert_eq!(pool.frames(), 0);
            pool.check().expect("consistent");
        });
    }
}

/// S-29: two frees of one handle, one success.
#[test]
fn s29_free_against_free() {
    sync::model(|| {
        let pool = pool();
        let handle = pool.store(&object(1)).expect("room");
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.free(handle).is_ok())
        };
        let here = pool.free(handle).is_ok();
        assert_ne!(here, other.join().expect("no panic"));
        assert_eq!(pool.frames(), 0);
        pool.check().expect("consistent");
    });
}

/// two allocations that both find no room may both add a zspage; each object is its own.
#[test]
fn r283_store_against_store() {
    sync::model(|| {
        let pool = pool();
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.store(&object(1)).expect("room"))
        };
        let here = pool.store(&object(2)).expect("room");
        let there = other.join().expect("no panic");
        assert_eq!((read(&pool, there), read(&pool, here)), (Ok(object(1).to_vec()), Ok(object(2).to_vec())));
        pool.check().expect("consistent");
    });
}

/// a read meets an overwrite: old bytes or new ones.
#[test]
fn r298_read_against_write() {
    sync::model(|| {
        let pool = pool();
        let handle = pool.store(&object(1)).expect("room");
        let writer = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.write(handle, &object(2)).expect("in place or beside"))
        };
        let bytes = read(&pool, handle).expect("live");
        assert!(bytes == object(1) || bytes == object(2), "{bytes:?}");
        writer.join().expect("no panic");
        assert_eq!(read(&pool, handle), Ok(object(2).to_vec()));
        pool.check().expect("consistent");
    });
}

/// S-13, R-414: a reader leaves a frame behind that it kept from going, while a compaction is in the zspage to look. That one, who leaves last, gives the
/// frame back.
#[test]
fn s13_a_compaction_does_what_a_reader_left() {
    /// Three of these share a chain of two frames; the second has bytes in both.
    const LONG: usize = 36;
    sync::model(|| {
        let pool = pool();
        let class = pool.classes.for_len(LONG).expect("a class");
        assert_eq!((class.frames, class.objects), (2, 3));
        let [first, second] = [1, 2].map(|byte| pool.store(&[byte; LONG]).expect("room"));
        let compactor = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                pool.compact_class(class, Budget::unlimited().start(), &mut Compaction::default());
            })
        };
        // The reader is the thread that runs first: then the schedule that matters needs but two of the switches loom counts.
        let object = pool.read(first).expect("live");
        pool.free(second).expect("live");
        drop(object);
        compactor.join().expect("no panic");
        assert_eq!(pool.frames(), 1);
        pool.check().expect("consistent");
    });
}

/// B13, L-10: two compactions of one class: one of them does it, and the frame is counted once.
#[test]
fn b13_compaction_against_compaction() {
    sync::model(|| {
        let pool = pool();
        let class = pool.classes.for_len(LEN).expect("a class");
        let [first, second, third] = [1, 2, 3].map(|byte| pool.store(&object(byte)).expect("room"));
        pool.free(first).expect("live");
        let compact = move |pool: &Pool| {
            let mut report = Compaction::default();
            (pool.compact_class(class, Budget::unlimited().start(), &mut report), report)
        };
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || compact(&pool))
        };
        let (here, there) = (compact(&pool), other.join().expect("no panic"));
        assert_eq!(here.1.frames_freed + there.1.frames_freed, 1);
        assert_eq!(here.1.objects_moved + there.1.objects_moved, 1);
        assert!([here.0, there.0].contains(&Outcome::Done));
        assert_eq!(pool.frames(), 1);
        assert_eq!((read(&pool, second), read(&pool, third)), (Ok(object(2).to_vec()), Ok(object(3).to_vec())));
        pool.check().expect("consistent");
    });
}
