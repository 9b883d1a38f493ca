//! The pool's protocols.
//!
//! Shadow cells behind the frames let loom check each access to bytes: a read that is not ordered
//! after the write it sees fails the run.

use super::{LEN, beside, compactor, join, object, pool, read, sparse_pool};
use crate::compact::compact_class;
use crate::{AccessError, Budget, Compaction, CompactionOutcome, Pool};

/// S-01, S-04, S-12: a read races with a free and with the next object in the same slot. It gets
/// its object's bytes or a stale handle.
#[test]
fn s01_read_against_free_and_reuse() {
    sync::model(|| {
        let pool = pool();
        let handle = pool.store(&object(1)).expect("room");
        let other = beside(&pool, move |pool| {
            pool.free(handle).expect("live");
            pool.store(&object(2)).expect("room")
        });
        match read(&pool, handle) {
            Ok(bytes) => assert_eq!(bytes, object(1), "the bytes of the object that was asked for"),
            Err(error) => assert_eq!(error, AccessError::Stale),
        }
        let second = join(other, &pool);
        assert_eq!(read(&pool, second).expect("live"), object(2));
        pool.free(second).expect("live");
        // R-417, S-13: the last holder of the chain has freed the frame.
        assert_eq!(pool.frames(), 0);
        pool.check().expect("consistent");
    });
}

/// S-21, S-25, S-50, B5: a read races with a compaction that moves its object. It gets the bytes,
/// from the old slot or the new one.
#[test]
fn s21_read_against_compaction() {
    sync::model(|| {
        let (pool, [second, third]) = sparse_pool();
        let compactor = compactor(&pool);
        assert_eq!(read(&pool, second), Ok(object(2).to_vec()));
        assert_eq!(read(&pool, third), Ok(object(3).to_vec()));
        join(compactor, &pool);
        pool.compact(&Budget::unlimited());
        assert_eq!(pool.frames(), 1);
        assert_eq!(read(&pool, third), Ok(object(3).to_vec()));
        pool.check().expect("consistent");
    });
}

/// B5, S-50: a free races with a compaction that moves the object. It is freed once, in either
/// slot.
#[test]
fn b5_free_against_compaction() {
    sync::model(|| {
        let (pool, [second, third]) = sparse_pool();
        let compactor = compactor(&pool);
        assert_eq!(pool.free(third), Ok(LEN));
        assert_eq!(pool.free(third), Err(AccessError::Stale));
        join(compactor, &pool);
        assert_eq!(read(&pool, second), Ok(object(2).to_vec()));
        pool.free(second).expect("live");
        assert_eq!(pool.frames(), 0);
        pool.check().expect("consistent");
    });
}

/// S-50, B5, B13b: the same for either of the two objects, so also for the one that compaction
/// moves first.
#[test]
fn s50_free_of_the_object_that_moves() {
    for victim in [0, 1] {
        sync::model(move || {
            let (pool, left) = sparse_pool();
            let compactor = compactor(&pool);
            assert_eq!(pool.free(left[victim]), Ok(LEN), "freed in its current slot");
            join(compactor, &pool);
            assert_eq!(pool.free(left[1 - victim]), Ok(LEN));
            assert_eq!(pool.frames(), 0);
            pool.check().expect("consistent");
        });
    }
}

/// S-29: of two frees of one handle, one succeeds.
#[test]
fn s29_free_against_free() {
    sync::model(|| {
        let pool = pool();
        let handle = pool.store(&object(1)).expect("room");
        let other = beside(&pool, move |pool| pool.free(handle).is_ok());
        let here = pool.free(handle).is_ok();
        assert_ne!(here, join(other, &pool));
        assert_eq!(pool.frames(), 0);
    });
}

/// two allocations that find no free slot may both add a zspage. Each object has its own
/// slot.
#[test]
fn r283_store_against_store() {
    sync::model(|| {
        let pool = pool();
        let other = beside(&pool, move |pool| pool.store(&object(1)).expect("room"));
        let here = pool.store(&object(2)).expect("room");
        let there = join(other, &pool);
        assert_eq!(
            (read(&pool, there), read(&pool, here)),
            (Ok(object(1).to_vec()), Ok(object(2).to_vec()))
        );
    });
}

/// a read that races with an overwrite gets the old bytes or the new ones.
#[test]
fn r298_read_against_write() {
    sync::model(|| {
        let pool = pool();
        let handle = pool.store(&object(1)).expect("room");
        let writer = beside(&pool, move |pool| {
            pool.write(handle, &object(2)).expect("in place or out of place")
        });
        let bytes = read(&pool, handle).expect("live");
        assert!(bytes == object(1) || bytes == object(2), "{bytes:?}");
        join(writer, &pool);
        assert_eq!(read(&pool, handle), Ok(object(2).to_vec()));
    });
}

/// S-13, R-414: a reader keeps a frame from being freed and leaves while a compaction holds the
/// zspage. The compaction leaves last and frees the frame.
#[test]
fn s13_a_compaction_does_the_deferred_free() {
    /// Length of an object: three of them share a chain of two frames, and the second has bytes
    /// in both.
    const LONG: usize = 36;
    sync::model(|| {
        let pool = pool();
        let class = pool.classes.for_len(LONG).expect("a class");
        assert_eq!((class.frames, class.objects), (2, 3));
        let [first, second] = [1, 2].map(|byte| pool.store(&[byte; LONG]).expect("room"));
        let compactor = beside(&pool, move |pool| {
            compact_class(pool, class, Budget::unlimited().start(), &mut Compaction::default());
        });
        // The reader is the thread that runs first: the critical schedule then needs only two of
        // the preemptions that loom counts.
        let object = pool.read(first).expect("live");
        pool.free(second).expect("live");
        drop(object);
        join(compactor, &pool);
        assert_eq!(pool.frames(), 1, "the frame that the reader kept is freed");
    });
}

/// B13, L-10: of two compactions of one class, one does the work, and the frame is counted once.
#[test]
fn b13_compaction_against_compaction() {
    sync::model(|| {
        let pool = pool();
        let class = pool.classes.for_len(LEN).expect("a class");
        let [first, second, third] = [1, 2, 3].map(|byte| pool.store(&object(byte)).expect("room"));
        pool.free(first).expect("live");
        let compact = move |pool: &Pool| {
            let mut report = Compaction::default();
            (compact_class(pool, class, Budget::unlimited().start(), &mut report), report)
        };
        let other = beside(&pool, compact);
        let (here, there) = (compact(&pool), join(other, &pool));
        assert_eq!(here.1.frames_freed + there.1.frames_freed, 1);
        assert_eq!(here.1.objects_moved + there.1.objects_moved, 1);
        assert!([here.0, there.0].contains(&CompactionOutcome::Done));
        assert_eq!(pool.frames(), 1);
        assert_eq!(
            (read(&pool, second), read(&pool, third)),
            (Ok(object(2).to_vec()), Ok(object(3).to_vec()))
        );
    });
}
