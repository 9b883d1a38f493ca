//! The background thread on sparse pools.

use std::time::Duration;

use super::*;
use crate::Handle;

fn pool() -> Arc<Pool> {
    crate::tests::pool(8192)
}

fn fill(pool: &Pool, count: usize) -> Vec<Handle> {
    (0..count)
        .map(|number| pool.store(&vec![number as u8; 200 + number * 67 % 3000]).expect("room"))
        .collect()
}

/// Waits for the background thread, far longer than it needs, so that a busy machine does not
/// matter.
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn every_second(handles: &[Handle]) -> impl Iterator<Item = Handle> {
    handles.iter().copied().step_by(2)
}

/// the thread compacts a sparse pool by itself, then its frames, and stops at the
/// threshold.
#[test]
fn r330_the_thread_compacts_a_sparse_pool() {
    let pool = pool();
    let handles = fill(&pool, 4000);
    let proactiveness = Proactiveness::new(90).expect("percent");
    let config = BackgroundConfig { cpu_percent: 100, start_permille: 10, proactiveness };
    let background = Background::start(&pool, config).expect("a thread");
    let before = pool.frames();
    every_second(&handles).for_each(|handle| assert!(pool.free(handle).is_ok()));
    let level = || pool.frames_freeable() * 1000 / pool.frames();
    wait_for("its objects are compacted", || {
        level() < 10 && pool.stats().background.state == BackgroundState::Watching
    });
    wait_for("its frames are compacted, too", || pool.zone().fragmentation() <= 15);
    let stats = pool.stats();
    assert!(pool.frames() < before * 6 / 10, "{} of {before} frames are left", pool.frames());
    assert!(stats.background.frames_moved > 0);
    assert!(stats.background.slices > 0 && stats.background.cpu > Duration::ZERO);
    assert_eq!(stats.background.frames_freed, stats.compaction.frames_freed);
    assert_eq!(stats.background.objects_moved, stats.compaction.objects_moved);
    drop(background);
    assert_eq!(pool.stats().background.state, BackgroundState::Off);
    pool.check().expect("consistent");
}

/// The thread backs off while all zspages with a gain are busy, and continues when they are free.
#[test]
fn fruitless_compaction_backs_off() {
    let pool = pool();
    let handles = fill(&pool, 400);
    every_second(&handles).for_each(|handle| assert!(pool.free(handle).is_ok()));
    let chains: std::collections::HashSet<_> = handles
        .iter()
        .filter_map(|&handle| pool.handles.locate(handle).ok())
        .map(|place| place.chain())
        .collect();
    let held: Vec<_> =
        chains.iter().filter_map(|&chain| pool.zspages.chains.try_exclusive(chain)).collect();
    let _background = Background::start(&pool, BackgroundConfig::default()).expect("a thread");
    wait_for("it backs off", || pool.stats().background.state == BackgroundState::BackingOff);
    assert_eq!(pool.stats().compaction.objects_moved, 0);
    drop(held);
    wait_for("it compacts again", || pool.frames_freeable() * 250 < pool.frames());
}

/// The thread keeps its CPU quota, also when there is always something to do.
#[test]
fn the_cpu_quota_is_kept() {
    let pool = pool();
    let mut handles = fill(&pool, 3000);
    let background = Background::start(
        &pool,
        BackgroundConfig { cpu_percent: 5, start_permille: 1, ..BackgroundConfig::default() },
    )
    .expect("a thread");
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(600) {
        for round in 0..1000 {
            let at = round * 7 % handles.len();
            pool.free(handles[at]).expect("live");
            handles[at] = pool.store(&vec![1; 200 + round * 131 % 3000]).expect("room");
        }
    }
    let (elapsed, stats) = (start.elapsed(), pool.stats().background);
    drop(background);
    assert!(stats.slices > 0, "{stats:?}");
    // One slice beyond the quota: the one it has not slept for yet.
    assert!(stats.cpu < elapsed / 20 + Duration::from_millis(5), "{:?} of {elapsed:?}", stats.cpu);
    pool.check().expect("consistent");
}

/// A pool has one thread at most, quotas outside the range are errors, and a new thread can start
/// after the old one.
#[test]
fn errors_are_typed_and_leave_nothing_running() {
    let pool = pool();
    let with = |cpu_percent, start_permille| {
        Background::start(
            &pool,
            BackgroundConfig { cpu_percent, start_permille, ..BackgroundConfig::default() },
        )
    };
    assert!(matches!(with(0, 10), Err(BackgroundError::Cpu { percent: 0 })));
    assert!(matches!(with(101, 10), Err(BackgroundError::Cpu { percent: 101 })));
    assert!(matches!(with(10, 0), Err(BackgroundError::Start { permille: 0 })));
    assert!(matches!(with(10, 1001), Err(BackgroundError::Start { permille: 1001 })));
    let first = with(100, 1000).expect("a thread");
    assert!(matches!(with(10, 10), Err(BackgroundError::AlreadyRunning)));
    drop(first);
    drop(with(1, 1).expect("the guard is free again"));
}

/// L-03, R-452: the pool may be dropped first; the thread ends then.
#[test]
fn r452_the_thread_keeps_no_pool_alive() {
    let pool = pool();
    let weak = Arc::downgrade(&pool);
    let background = Background::start(&pool, BackgroundConfig::default()).expect("a thread");
    drop(pool);
    wait_for("the pool is gone", || weak.strong_count() == 0);
    drop(background);
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn work_and_sleep_add_up_to_the_quota() {
    let mut quota = CpuQuota::new(10, 7 * MS);
    // One millisecond of CPU time needs ten of wall-clock time. Two have passed, as another
    // thread had the CPU for one of them.
    assert_eq!(quota.rest(8 * MS, 2 * MS), 8 * MS);
    assert_eq!(quota.rest(8 * MS, MS), Duration::ZERO);
    assert_eq!(quota.spent(), MS);
    assert_eq!(CpuQuota::new(100, MS).rest(3 * MS, 2 * MS), Duration::ZERO);
    assert_eq!(CpuQuota::new(1, MS).rest(2 * MS, MS), 99 * MS);
}

#[test]
fn unused_quota_is_not_saved() {
    let mut quota = CpuQuota::new(50, Duration::ZERO);
    assert_eq!(quota.rest(MS, 1000 * MS), Duration::ZERO);
    assert_eq!(quota.rest(5 * MS, 4 * MS), 4 * MS);
}
