//! What the modes of migration change.

use std::time::{Duration, Instant};

use super::*;

/// Returns how often the calling thread went to sleep.
fn waits() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("procfs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
        .expect("a line of it");
    line.trim().parse().expect("a number")
}

/// Migrates a frame that stays busy, for ten passes. Returns how often that slept and how long it
/// took.
fn busy(mode: MigrateMode) -> (u64, Duration) {
    let zone = zone();
    let driver = Driver::new(&zone);
    driver.answers(Answer::AgainTimes(u32::MAX));
    let mut batch = vec![zone.isolate(driver.take()).expect("movable")];
    let mut fresh = |_| take(&zone).ok();
    let (before, start) = (waits(), Instant::now());
    let done = zone.migrate_pages(&mut batch, &mut fresh, mode);
    let (waited, took) = (waits() - before, start.elapsed());
    assert_eq!((done.again, driver.moves.load(Relaxed)), (1, 10), "{mode:?}");
    (waited, took)
}

/// only `Async` never sleeps. The others sleep before each pass from the fourth on, `Sync`
/// longer.
#[test]
fn r029_only_async_never_waits() {
    assert_eq!(busy(MigrateMode::Async).0, 0);
    let (waited, took) = busy(MigrateMode::SyncLight);
    assert!(waited >= 7 && took >= Duration::from_micros(7 * 50), "{waited} waits, {took:?}");
    let (waited, took) = busy(MigrateMode::Sync);
    assert!(waited >= 7 && took >= Duration::from_micros(7 * 500), "{waited} waits, {took:?}");
}

/// no mode waits for a frame that can be moved, or that its owner refuses to move.
#[test]
fn r029_no_mode_waits_when_nothing_is_busy() {
    for mode in [MigrateMode::Async, MigrateMode::SyncLight, MigrateMode::Sync] {
        for answer in [Answer::Move, Answer::Fail, Answer::AgainTimes(2)] {
            let zone = zone();
            let driver = Driver::new(&zone);
            driver.answers(answer);
            let mut batch = vec![zone.isolate(driver.take()).expect("movable")];
            let mut fresh = |_| take(&zone).ok();
            let before = waits();
            let done = zone.migrate_pages(&mut batch, &mut fresh, mode);
            assert_eq!(waits() - before, 0, "{mode:?} {answer:?}: {done:?}");
        }
    }
}
