//! Growth of a pool: it takes single frames, whatever the shape of free memory, and frees them
//! when it cannot get the next one.

use std::sync::Arc;

use frames::{Frame, FrameCount, MigrateType, Reclaim};
use zsmalloc::{AllocError, ChainRule, Handle, Pool, PoolConfig, SizeClasses};

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;
use support::{occupy, pool_in, zone};

fn pool(frames: u64, objects: u32) -> Arc<Pool> {
    let config = PoolConfig { max_objects: Some(objects), ..PoolConfig::default() };
    pool_in(&zone(frames), config)
}

/// with no two adjacent frames free, a pool stores objects of every length until the last
/// frame is used.
#[test]
fn r200_single_frames_are_all_a_pool_needs() {
    let pool = pool(1024, 1 << 14);
    let zone = pool.zone();
    let (even, odd): (Vec<Frame<'_>>, _) =
        occupy(zone, 1024).into_iter().partition(|frame| frame.pfn().0 % 2 == 0);
    drop(even);
    zone.drain();
    assert!(
        zone.alloc_block(
            frames::Order::new(1).expect("an order"),
            MigrateType::Movable,
            Reclaim::NotAllowed
        )
        .is_err()
    );
    let mut stored: Vec<(Handle, Vec<u8>)> = Vec::new();
    for number in 0.. {
        let bytes: Vec<u8> =
            (0..1 + number * 613 % 4096).map(|at| (number * 31 + at) as u8).collect();
        match pool.store(&bytes) {
            Ok(handle) => stored.push((handle, bytes)),
            Err(error) => {
                assert_eq!(error, AllocError::NoFrames);
                break;
            }
        }
    }
    assert!(pool.frames() > 500, "only {} of 512 free frames were used", pool.frames());
    for (handle, bytes) in &stored {
        assert_eq!(&pool.read(*handle).expect("live").to_vec(), bytes);
    }
    drop(odd);
    pool.check().expect("consistent");
}

/// a growing zspage is refused its next frame, at each frame it can have. The pool is
/// unchanged, and continues when there is room.
#[test]
fn r211_a_refused_frame_leaves_the_pool_as_it_was() {
    for class in SizeClasses::new(16, ChainRule::LeastWaste).iter() {
        for frames in 0..u64::from(class.frames) {
            let pool = pool(512, 1 << 10);
            // The limit cannot be zero: a frame held by the test makes it one.
            let held = occupy(pool.zone(), 1);
            pool.zone().set_limit(Some(FrameCount(frames + 1)));
            let bytes = vec![7; class.payload()];
            let error = std::iter::from_fn(|| Some(pool.store(&bytes))).find_map(Result::err);
            assert_eq!((error, pool.frames()), (Some(AllocError::Limit), frames), "{class:?}");
            let before = pool.stats();
            assert_eq!(pool.store(&bytes), Err(AllocError::Limit));
            assert_eq!(pool.stats(), before);
            pool.check().expect("consistent");
            pool.zone().set_limit(None);
            pool.store(&bytes).expect("room");
            drop(held);
        }
    }
}

/// without a free handle index, nothing is allocated.
#[test]
fn r280_without_a_handle_nothing_is_allocated() {
    let pool = pool(512, 1);
    let error = std::iter::from_fn(|| Some(pool.store(&[1; 100]))).find_map(Result::err);
    assert_eq!(error, Some(AllocError::Numbers));
    let before = pool.stats();
    assert_eq!(pool.store(&[1; 4096]), Err(AllocError::Numbers));
    assert_eq!(pool.stats(), before);
    pool.check().expect("consistent");
}

/// R-207, E-4: the records of zspages are at most 1 % of their frames, for objects of one length,
/// small or large. Records are counted in chunks of 512, so the last chunk is added.
#[test]
fn r207_zspage_records_are_one_percent_at_most() {
    const LAST_CHUNK: u64 = 24 << 10;
    for (len, frames) in [(24, 4000), (100, 8000), (500, 8000), (1500, 8000), (3000, 8000)] {
        let pool = pool(frames + 512, 1 << 20);
        while pool.frames() < frames {
            pool.store(&vec![1; len]).expect("room");
        }
        let (records, frames) = (pool.stats().zspage_bytes, pool.frames() * 4096);
        assert!(
            records <= frames / 100 + LAST_CHUNK,
            "{records} bytes of records for {frames} bytes of frames, length {len}"
        );
    }
}

/// Zspages are freed under their class lock, where no OS call is allowed: debug builds panic on
/// one. The records of 2048 zspages go back to the OS after the lock is released.
#[test]
fn records_of_freed_zspages_are_freed_unlocked() {
    let pool = pool(8192, 1 << 14);
    let before = pool.stats().zspage_bytes;
    let handles: Vec<Handle> = (0..6144).map(|_| pool.store(&[1; 4096]).expect("room")).collect();
    let full = pool.stats().zspage_bytes;
    for handle in handles {
        pool.free(handle).expect("live");
    }
    let chunk = (full - before) / 3;
    let now = pool.stats().zspage_bytes;
    assert!(
        now < before + 2 * chunk,
        "{now} bytes of records are left of {full}, with {chunk} to a chunk"
    );
    pool.check().expect("consistent");
}
