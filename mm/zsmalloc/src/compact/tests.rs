//! Object compaction on prepared fills.

use std::sync::Arc;

use frames::{FRAME_SIZE, FrameCount, Zone, ZoneConfig};
use sys::Backing;

use crate::{Budget, Handle, Outcome, Pool, PoolConfig};
use std::time::Duration;

fn pool() -> Pool {
    let zone = Zone::new(ZoneConfig { capacity: FrameCount(8192), backing: Backing::Heap, ..ZoneConfig::default() });
    let config = PoolConfig { backing: Backing::Heap, ..PoolConfig::default() };
    Pool::new(Arc::new(zone.expect("a small zone")), config).expect("a small pool")
}

fn fill(pool: &Pool, len: usize, count: u32) -> Vec<Handle> {
    (0..count).map(|seed| pool.store(&content(seed, len)).expect("room")).collect()
}

fn content(seed: u32, len: usize) -> Vec<u8> {
    (0..len as u32).map(|byte| (seed.wrapping_mul(2_654_435_761).wrapping_add(byte * 31) >> 8) as u8).collect()
}

fn free_every(pool: &Pool, handles: &[Handle], keep: impl Fn(usize) -> bool) {
    for (number, &handle) in handles.iter().enumerate() {
        if !keep(number) {
            pool.free(handle).expect("live");
        }
    }
    pool.check().expect("consistent");
}

/// sparse zspages merge, used stays, content stays, and nearly no frame is left that need not be.
#[test]
fn r330_half_a_pool_needs_half_its_frames() {
    for len in [40, 300, 1000, 1850, 3000, 3700] {
        let pool = pool();
        let handles = fill(&pool, len, 2000);
        let full = pool.frames();
        free_every(&pool, &handles, |number| number % 2 == 0);
        let report = pool.compact(&Budget::unlimited());
        pool.check().expect("consistent");
        assert_eq!(report.outcome, Outcome::Done);
        assert!(pool.frames() <= full / 2 + 1, "{len}: {} of {full} frames left", pool.frames());
        for (number, &handle) in handles.iter().enumerate().filter(|(number, _)| number % 2 == 0) {
            assert_eq!(pool.read(handle).expect("live").to_vec(), content(number as u32, len), "object {number}");
        }
    }
}

/// S-47: objects are not shuffled about for nothing.
#[test]
fn s47_a_second_run_moves_nothing() {
    let pool = pool();
    let handles = fill(&pool, 1850, 1500);
    free_every(&pool, &handles, |number| number % 5 == 0);
    assert!(pool.compact(&Budget::unlimited()).objects_moved > 0);
    let second = pool.compact(&Budget::unlimited());
    assert_eq!((second.objects_moved, second.frames_freed, second.skipped), (0, 0, 0));
}

/// S-21, L-04: an object somebody reads is compacted around or away, and the reader keeps its bytes. The reader's own thread compacts.
#[test]
fn s21_a_reader_keeps_its_bytes_while_its_object_moves_and_dies() {
    let pool = pool();
    let handles = fill(&pool, 1850, 500);
    free_every(&pool, &handles, |number| number % 3 == 0);
    let readers: Vec<_> = handles.iter().step_by(30).map(|&handle| pool.read(handle).expect("live")).collect();
    pool.compact(&Budget::unlimited());
    handles.iter().step_by(3).for_each(|&handle| {
        pool.free(handle).expect("live");
    });
    let again = fill(&pool, 1850, 500);
    for (reader, number) in readers.iter().zip((0..).step_by(30)) {
        assert_eq!(reader.to_vec(), content(number, 1850), "object {number}");
    }
    drop(readers);
    pool.check().expect("consistent: the last reader to leave has given back what was pending");
    free_every(&pool, &again, |_| false);
    assert_eq!(pool.frames(), 0);
}

/// A budget of nothing moves nothing; a small one stops early and says so, and the pool is consistent in between.
#[test]
fn a_budget_is_kept() {
    let pool = pool();
    let handles = fill(&pool, 500, 8000);
    free_every(&pool, &handles, |number| number % 2 == 0);
    let none = pool.compact(&Budget::within(Duration::ZERO));
    assert_eq!((none.objects_moved, none.outcome), (0, Outcome::OutOfTime));
    let mut runs = 0;
    while pool.compact(&Budget::within(Duration::from_micros(50))).outcome == Outcome::OutOfTime {
        pool.check().expect("consistent");
        runs += 1;
        assert!(runs < 100_000, "every run gets somewhere");
    }
    let live = pool.stats().live_bytes;
    assert!(live * 100 / (pool.frames() * FRAME_SIZE as u64) >= 95);
}

/// R-331, B4: huge objects are left alone, their handles stay good.
#[test]
fn b4_huge_objects_stay_where_they_are() {
    let pool = pool();
    let handles = fill(&pool, 4096, 100);
    free_every(&pool, &handles, |number| number % 2 == 0);
    assert_eq!(pool.frames(), 50);
    assert_eq!(pool.compact(&Budget::unlimited()).objects_moved, 0);
    free_every(&pool, &handles[..1], |_| false);
}

/// R-330 while the zone is at its limit: compaction needs no frame it cannot get.
#[test]
fn compaction_works_at_the_limit() {
    let pool = pool();
    let handles = fill(&pool, 1850, 1000);
    free_every(&pool, &handles, |number| number % 2 == 0);
    pool.zone().set_limit(Some(FrameCount(pool.frames())));
    let before = pool.frames();
    pool.compact(&Budget::unlimited());
    pool.check().expect("consistent");
    assert!(pool.frames() < before * 3 / 4);
}

/// after objects and then frames moved together, what is held is what is used, and every byte is there.
#[test]
fn gathering_after_compaction_leaves_whole_blocks_free() {
    let pool = pool();
    let mixed = |number: usize| [700, 1850, 3000, 4096][number % 4];
    let handles: Vec<Handle> =
        (0..8000).map(|number| pool.store(&content(number as u32, mixed(number))).expect("room")).collect();
    free_every(&pool, &handles, |number| number % 7 < 2);
    pool.compact(&Budget::unlimited());
    assert_eq!(pool.gather(&Budget::within(Duration::ZERO)).outcome, Outcome::OutOfTime);
    let gathering = pool.gather(&Budget::unlimited());
    assert_eq!((gathering.outcome, gathering.frames_busy), (Outcome::Done, 0));
    assert!(gathering.frames_moved > 0);
    pool.check().expect("consistent");
    pool.zone().trim();
    let zone = pool.zone().stats();
    assert!(zone.committed.0 - zone.in_use.0 < 512, "{zone:?}");
    for (number, &handle) in handles.iter().enumerate().filter(|(number, _)| number % 7 < 2) {
        let expected = content(number as u32, mixed(number));
        assert_eq!(pool.read(handle).expect("live").to_vec(), expected, "object {number}");
    }
}
