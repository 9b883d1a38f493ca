//! Memory failures, by the signals that the kernel sends. Every object has the bytes that were
//! stored, or is a typed error.

#![cfg(not(any(loom, shuttle, miri)))]
#![forbid(unsafe_code)]

use std::sync::Arc;

use frames::{CompactRequest, Frame, FrameCount, MigrateType, Pfn, Reclaim, Zone, ZoneConfig};
use proptest::prelude::*;
use sys::memory_failure::{Injection, catch_memory_failures};
use zsmalloc::{AccessError, AllocError, Budget, Handle, MapMode, Pool, PoolConfig};

const FRAMES: u64 = 2048;

fn pool() -> (Arc<Zone>, Arc<Pool>) {
    catch_memory_failures().expect("a handler");
    let zone = Zone::new(ZoneConfig {
        capacity: FrameCount(FRAMES),
        lists: Some(1),
        ..ZoneConfig::default()
    });
    let zone = Arc::new(zone.expect("a small zone"));
    let pool = Pool::new(Arc::clone(&zone), PoolConfig::default()).expect("a small pool");
    (zone, pool)
}

fn fail(zone: &Zone, pfn: Pfn) {
    zone.inject_memory_failure(pfn, Injection::ActionRequired).expect("the signal is sent");
}

/// Frames in use, ascending.
fn in_use(zone: &Zone) -> Vec<Pfn> {
    (0..FRAMES as u32).map(Pfn).filter(|&pfn| zone.get(pfn).is_some()).collect()
}

fn content(number: usize) -> Vec<u8> {
    let len = [40, 100, 700, 1500, 1900, 2500, 3100, 4096][number % 8];
    (0..len).map(|at| (number * 31 + at * 7 + 1) as u8).collect()
}

/// Reads an object and checks it for failures after the copy.
fn read(pool: &Pool, handle: Handle) -> Result<Vec<u8>, AccessError> {
    let object = pool.read(handle)?;
    let bytes = object.to_vec();
    object.intact().map(|()| bytes)
}

/// only the objects in failed frames are lost, and reading them is an error. Overwriting
/// restores them. Both compactions keep the others whole. In the end the failed frames are out of
/// use.
#[test]
fn r025_objects_in_failed_frames_are_errors() {
    let (zone, pool) = pool();
    let handles: Vec<_> =
        (0..2000).map(|number| pool.store(&content(number)).expect("room")).collect();
    let failed: Vec<_> = in_use(&zone).into_iter().skip(3).step_by(97).collect();
    failed.iter().for_each(|&pfn| fail(&zone, pfn));
    let lost = |number: usize| match read(&pool, handles[number]) {
        Ok(bytes) => {
            assert_eq!(bytes, content(number), "object {number} has other bytes than those stored");
            false
        }
        Err(error) => {
            assert_eq!(error, AccessError::MemoryFailure);
            true
        }
    };
    let before: Vec<_> = (0..2000).filter(|&number| lost(number)).collect();
    assert!(
        before.len() >= failed.len() && before.len() < 400,
        "{} objects of {} frames",
        before.len(),
        failed.len()
    );
    pool.check().expect("consistent");
    for number in
        (0..2000_usize).filter(|number| number.is_multiple_of(3) && !before.contains(number))
    {
        pool.free(handles[number]).expect("live");
    }
    let compaction = pool.compact(&Budget::unlimited());
    assert!(compaction.objects_moved > 0 && compaction.frames_freed > 0);
    zone.compact(CompactRequest::default());
    pool.check().expect("consistent");
    zone.check().expect("consistent");
    let alive = |number: &usize| !number.is_multiple_of(3) || before.contains(number);
    assert_eq!((0..2000).filter(alive).filter(|&number| lost(number)).collect::<Vec<_>>(), before);
    for &number in &before {
        let refused = pool.map(handles[number], MapMode::ReadWrite).map(|mapped| mapped.len());
        assert_eq!(refused, Err(AccessError::MemoryFailure));
        assert_eq!(pool.len(handles[number]), Ok(content(number).len()));
        pool.write(handles[number], &content(number)).expect("room elsewhere");
    }
    assert_eq!((0..2000).filter(alive).filter(|&number| lost(number)).count(), 0);
    pool.check().expect("consistent");
    (0..2000)
        .filter(alive)
        .for_each(|number| assert_eq!(pool.free(handles[number]), Ok(content(number).len())));
    zone.drain();
    zone.check().expect("consistent");
    let stats = zone.memory_failure_stats();
    assert_eq!(
        (stats.total.0, stats.recovered.0, stats.delayed.0),
        (failed.len() as u64, failed.len() as u64, 0)
    );
    assert_eq!((pool.frames(), zone.stats().in_use), (0, FrameCount(0)));
}

/// A memory failure after a reader has found its object is detected: the copied bytes are rejected.
#[test]
fn r025_a_reader_detects_a_memory_failure() {
    let (zone, pool) = pool();
    for len in [100, 2500, 4096] {
        let handle = pool.store(&vec![7; len]).expect("room");
        let object = pool.read(handle).expect("live");
        assert_eq!(object.to_vec(), vec![7; len]);
        assert_eq!(object.intact(), Ok(()));
        in_use(&zone).into_iter().for_each(|pfn| fail(&zone, pfn));
        assert_eq!(object.to_vec(), vec![0; len], "the new page");
        assert_eq!(object.intact(), Err(AccessError::MemoryFailure));
        drop(object);
        assert_eq!(read(&pool, handle), Err(AccessError::MemoryFailure));
        assert_eq!(pool.free(handle), Ok(len), "it can be freed");
        zone.check().expect("consistent");
        assert_eq!(zone.stats().in_use, FrameCount(0));
    }
}

/// New objects avoid free slots in failed frames, also when a reader forces a write out of place.
#[test]
fn r025_new_objects_avoid_failed_frames() {
    let (zone, pool) = pool();
    let old: Vec<_> = (0..64).map(|_| pool.store(&[1; 100]).expect("room")).collect();
    old.iter().skip(1).step_by(2).for_each(|&handle| _ = pool.free(handle).expect("live"));
    in_use(&zone).into_iter().for_each(|pfn| fail(&zone, pfn));
    let new: Vec<_> = (0..200)
        .map(|number| (pool.store(&[number as u8; 100]).expect("room"), number as u8))
        .collect();
    for &(handle, byte) in &new {
        assert_eq!(read(&pool, handle), Ok(vec![byte; 100]));
    }
    for &handle in old.iter().step_by(2) {
        assert_eq!(read(&pool, handle), Err(AccessError::MemoryFailure));
        pool.write(handle, &[9; 100]).expect("room");
        assert_eq!(read(&pool, handle), Ok(vec![9; 100]));
    }
    pool.check().expect("consistent");
    zone.check().expect("consistent");
    assert_eq!(
        zone.memory_failure_stats().delayed,
        FrameCount(0),
        "they are empty, so they go out of use"
    );
}

#[derive(Clone, Debug)]
enum Op {
    Store(usize, u8),
    Write(prop::sample::Index, u8),
    Free(prop::sample::Index),
    Fail(u32, bool),
    SoftOffline(u32),
    CompactObjects,
    CompactFrames,
    Occupy(usize),
    Vacate,
    Trim,
}

fn op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![4 => 1usize..4097, 2 => 1500usize..2000, 1 => Just(4096usize)];
    let which = || any::<prop::sample::Index>();
    let frame = || prop_oneof![3 => 0..64u32, 1 => 0..FRAMES as u32];
    prop_oneof![
        12 => (len, any::<u8>()).prop_map(|(len, byte)| Op::Store(len, byte)),
        3 => (which(), any::<u8>()).prop_map(|(which, byte)| Op::Write(which, byte)),
        6 => which().prop_map(Op::Free),
        2 => (frame(), any::<bool>()).prop_map(|(frame, early)| Op::Fail(frame, early)),
        2 => frame().prop_map(Op::SoftOffline),
        2 => Just(Op::CompactObjects),
        2 => Just(Op::CompactFrames),
        1 => (1usize..600).prop_map(Op::Occupy),
        1 => Just(Op::Vacate),
        1 => Just(Op::Trim),
    ]
}

fn pattern(len: usize, byte: u8) -> Vec<u8> {
    (0..len).map(|at| byte.wrapping_add(at as u8).wrapping_mul(7) | 1).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// an object has the bytes that were stored, or is an error. Without a hard failure it
    /// is never an error.
    #[test]
    fn r025_no_object_ever_has_other_bytes(ops in proptest::collection::vec(op(), 1..250)) {
        let (zone, pool) = pool();
        let mut live: Vec<(Handle, Vec<u8>)> = Vec::new();
        let mut occupied: Vec<Frame<'_>> = Vec::new();
        let mut hard = false;
        for op in ops {
            match op {
                Op::Store(len, byte) => match pool.store(&pattern(len, byte)) {
                    Ok(handle) => live.push((handle, pattern(len, byte))),
                    Err(error) => prop_assert_eq!(error, AllocError::NoFrames),
                },
                Op::Write(which, byte) if !live.is_empty() => {
                    let (handle, old) = which.get_mut(&mut live);
                    let new = pattern(old.len(), byte);
                    if pool.write(*handle, &new).is_ok() {
                        prop_assert_eq!(read(&pool, *handle), Ok(new.clone()));
                        *old = new;
                    }
                }
                Op::Free(which) if !live.is_empty() => {
                    let (handle, old) = live.swap_remove(which.index(live.len()));
                    prop_assert_eq!(pool.free(handle), Ok(old.len()));
                }
                Op::Fail(frame, early) => {
                    let how = if early { Injection::ActionOptional } else { Injection::ActionRequired };
                    zone.inject_memory_failure(Pfn(frame), how).expect("the signal is sent");
                    hard = true;
                }
                Op::SoftOffline(frame) => _ = zone.soft_offline(Pfn(frame)),
                Op::CompactObjects => _ = pool.compact(&Budget::unlimited()),
                Op::CompactFrames => _ = zone.compact(CompactRequest::default()),
                Op::Occupy(frames) => {
                    let take = |_| zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok();
                    occupied.extend((0..frames).filter_map(take));
                }
                Op::Vacate => occupied.clear(),
                Op::Trim => zone.trim(),
                _ => {}
            }
            pool.check().expect("the pool is consistent");
            zone.check().expect("the zone is consistent");
            for (handle, old) in &live {
                match read(&pool, *handle) {
                    Ok(bytes) => prop_assert_eq!(&bytes, old),
                    Err(error) => prop_assert!(hard && error == AccessError::MemoryFailure),
                }
            }
        }
        occupied.clear();
        for (handle, old) in live {
            prop_assert_eq!(pool.free(handle), Ok(old.len()));
        }
        zone.drain();
        zone.check().expect("the zone is consistent");
        prop_assert_eq!((pool.frames(), zone.stats().in_use), (0, FrameCount(0)));
        prop_assert_eq!(zone.memory_failure_stats().delayed, FrameCount(0));
    }
}
