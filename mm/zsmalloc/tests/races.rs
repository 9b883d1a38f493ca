//! Readers, writers, frees and compaction at once, on real threads. Each run is short, and every
//! byte is checked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use fastrand::Rng;
use frames::{CompactRequest, FrameCount};
use zsmalloc::{
    AccessError, AllocError, Budget, Compaction, CompactionOutcome, Handle, WriteError,
};

mod support;
use support::{occupy, pool};

/// Returns `len` bytes that repeat `tag`.
fn tagged(tag: u64, len: usize) -> Vec<u8> {
    tag.to_le_bytes().into_iter().cycle().take(len).collect()
}

fn is_whole(bytes: &[u8]) -> bool {
    bytes.chunks(8).all(|chunk| chunk == &bytes[..chunk.len()])
}

/// Returns whether these are the bytes of an object that was stored for `slot`.
fn belongs_to(slot: usize, bytes: &[u8]) -> bool {
    let owner = bytes.first_chunk().map(|tag| u64::from_le_bytes(*tag) >> 48);
    owner == Some(slot as u64) && is_whole(bytes)
}

/// S-01, S-21, S-25, S-50, S-53, R-298, B5: several threads store, read, overwrite, free and
/// compact objects, and move their frames. A reader of a slot finds all bytes of an object that
/// was stored for this slot.
#[test]
fn s21_everything_at_once_keeps_every_byte() {
    const SLOTS: usize = 512;
    let pool = pool(8192);
    let slots: Vec<AtomicU64> = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 1..=2u64 {
            let (pool, slots, stop) = (&pool, &slots, &stop);
            scope.spawn(move || {
                let mut rng = Rng::with_seed(seed);
                for round in 0..60_000u64 {
                    let number = rng.usize(..SLOTS);
                    let (slot, tag) = (&slots[number], (number as u64) << 48);
                    let len = rng.usize(64..4064);
                    let new = pool.store(&tagged(tag | seed << 40 | round, len)).expect("room");
                    let old = slot.swap(new.to_bits(), Ordering::AcqRel);
                    if old != 0 {
                        pool.free(Handle::from_bits(old)).expect("swapped out once, so freed once");
                    }
                    if round % 16 == 0 {
                        let handle = Handle::from_bits(slot.load(Ordering::Acquire));
                        let again = tag | rng.u64(..1 << 48);
                        match pool.len(handle).map(|len| pool.write(handle, &tagged(again, len))) {
                            Ok(Ok(()))
                            | Err(AccessError::Stale)
                            | Ok(Err(WriteError::Access(AccessError::Stale))) => {}
                            other => panic!("{other:?}"),
                        }
                    }
                }
                stop.store(true, Ordering::Release);
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                pool.compact(&Budget::unlimited());
                pool.zone().compact(CompactRequest::default());
            }
        });
        // Takes and frees the lowest pageblocks again and again, so that the pool's frames lie
        // above and frame compaction moves them down.
        scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                let held = occupy(pool.zone(), 6000);
                thread::yield_now();
                drop(held);
            }
        });
        scope.spawn(|| {
            let mut scratch = [0; 4096];
            let mut held = Vec::new();
            for (number, slot) in slots.iter().enumerate().cycle() {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                let bits = slot.load(Ordering::Acquire);
                if bits == 0 {
                    continue;
                }
                match pool.read(Handle::from_bits(bits)) {
                    Ok(object) => {
                        assert!(belongs_to(number, object.contiguous(&mut scratch)));
                        held.push((number, object));
                        // Also hold readers for a long time: they must see the same bytes at the
                        // end.
                        if held.len() == 8 {
                            held.drain(..)
                                .for_each(|(of, object)| assert!(belongs_to(of, &object.to_vec())));
                        }
                    }
                    Err(AccessError::Stale) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    });
    pool.check().expect("consistent");
    let moved = pool.zone().vmstat().pgmigrate_success;
    assert!(moved > 0, "no frame was moved, so the test did not cover moves");
    for slot in &slots {
        let bits = slot.load(Ordering::Acquire);
        if bits != 0 {
            pool.free(Handle::from_bits(bits)).expect("live");
        }
    }
    // no frame is left, whichever thread held the chain last.
    assert_eq!(pool.frames(), 0);
    pool.check().expect("consistent");
}

/// S-29, R-289: of several threads that free one handle, one succeeds.
#[test]
fn s29_exactly_one_free_of_a_handle_succeeds() {
    let pool = pool(1024);
    for round in 0..2_000 {
        let handle = pool.store(&tagged(round, 900)).expect("room");
        let freed: usize = thread::scope(|scope| {
            let tries: Vec<_> =
                (0..2).map(|_| scope.spawn(|| usize::from(pool.free(handle).is_ok()))).collect();
            tries.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(freed, 1);
    }
    assert_eq!(pool.frames(), 0);
}

/// S-12, S-13, R-285: a free does not wait for a reader of its zspage, and the reader frees the
/// frame when it leaves.
#[test]
fn s13_the_last_reader_does_the_deferred_free() {
    let pool = pool(1024);
    let handle = pool.store(&tagged(1, 1000)).expect("room");
    let reader = pool.read(handle).expect("live");
    assert_eq!(pool.free(handle), Ok(1000));
    assert_eq!(pool.frames(), 1);
    assert!(is_whole(&reader.to_vec()));
    drop(reader);
    assert_eq!(pool.frames(), 0, "the last reader frees the frame");
    pool.check().expect("consistent");
}

/// S-15, R-280: an empty zspage that waits for its reader is reused, but not the bytes that are
/// read.
#[test]
fn s15_a_reader_keeps_the_bytes_of_a_freed_object() {
    let pool = pool(1024);
    let handle = pool.store(&tagged(1, 1000)).expect("room");
    let reader = pool.read(handle).expect("live");
    pool.free(handle).expect("live");
    let others: Vec<Handle> =
        (2..50).map(|tag| pool.store(&tagged(tag, 1000)).expect("room")).collect();
    assert_eq!(reader.to_vec(), tagged(1, 1000));
    drop(reader);
    pool.check().expect("consistent");
    others.into_iter().for_each(|handle| assert!(pool.free(handle).is_ok()));
    assert_eq!(pool.frames(), 0);
}

/// L-04: a thread may overwrite an object that it reads. It keeps the old bytes; later readers
/// get the new ones.
#[test]
fn l04_a_reader_may_overwrite_what_it_reads() {
    let pool = pool(1024);
    let handle = pool.store(&tagged(1, 3000)).expect("room");
    let reader = pool.read(handle).expect("live");
    pool.write(handle, &tagged(2, 3000)).expect("written out of place");
    assert_eq!(reader.to_vec(), tagged(1, 3000));
    assert_eq!(pool.read(handle).expect("live").to_vec(), tagged(2, 3000));
    drop(reader);
    pool.check().expect("consistent");
}

/// R-330, B13, L-10: concurrent compactions share the classes, and report each freed frame once.
#[test]
fn b13_compactions_at_once_count_each_frame_once() {
    for round in 0..8u64 {
        let pool = pool(8192);
        let len = |tag: u64| 200 + (tag * 67 + round) as usize % 3400;
        let handles: Vec<Handle> =
            (0..6000).map(|tag| pool.store(&tagged(tag, len(tag))).expect("room")).collect();
        handles.iter().step_by(2).for_each(|&handle| assert!(pool.free(handle).is_ok()));
        let before = pool.frames();
        let reports: Vec<Compaction> = thread::scope(|scope| {
            let runs: Vec<_> =
                (0..3).map(|_| scope.spawn(|| pool.compact(&Budget::unlimited()))).collect();
            runs.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let sum = |of: fn(&Compaction) -> u64| reports.iter().map(of).sum::<u64>();
        assert_eq!(before - pool.frames(), sum(|report| report.frames_freed));
        let totals = pool.stats().compaction;
        assert_eq!(totals.runs, 3);
        assert_eq!(totals.frames_freed, sum(|report| report.frames_freed));
        assert_eq!(totals.objects_moved, sum(|report| report.objects_moved));
        assert!(
            reports.iter().any(|report| report.outcome == CompactionOutcome::Done),
            "the last one to end left nothing"
        );
        pool.check().expect("consistent");
        for (tag, &handle) in (0..).zip(&handles).skip(1).step_by(2) {
            assert_eq!(pool.read(handle).expect("live").to_vec(), tagged(tag, len(tag)));
        }
        assert_eq!(pool.compact(&Budget::unlimited()).objects_moved, 0);
    }
}

/// Calls with a wrong size, length or handle, and calls at the limit, return errors and change
/// nothing.
#[test]
fn errors_are_typed_and_change_nothing() {
    let pool = pool(1024);
    for len in [0, 4097, usize::MAX] {
        assert_eq!(pool.malloc(len), Err(AllocError::Size { len }));
    }
    assert_eq!(pool.store(&[]), Err(AllocError::Size { len: 0 }));
    let handle = pool.store(&tagged(1, 500)).expect("room");
    assert_eq!(
        pool.write(handle, &[0; 499]),
        Err(WriteError::Length { expected: 500, given: 499 })
    );
    for bits in
        [0, 1, u64::MAX, handle.to_bits() ^ 1, handle.to_bits() ^ 1 << 32, u64::from(u32::MAX)]
    {
        assert_eq!(pool.free(Handle::from_bits(bits)), Err(AccessError::Stale));
        assert_eq!(pool.read(Handle::from_bits(bits)).err(), Some(AccessError::Stale));
    }
    pool.zone().set_limit(Some(FrameCount(1)));
    assert_eq!(pool.store(&[1; 4096]), Err(AllocError::Limit));
    assert!(pool.store(&tagged(2, 500)).is_ok(), "the attached frame has room");
    assert_eq!(pool.read(handle).expect("live").to_vec(), tagged(1, 500));
    pool.check().expect("consistent");
}
