//! Loom models of the balloon's protocols: the real code on pageblocks of four 64-byte frames.

use std::sync::Arc;

use frames::{
    Backing, Frame, FrameCount, MigrateMode, MigrateType, Pfn, Reclaim, Zone, ZoneConfig,
};
use sync::thread;

use crate::test_host::RecordingHost;
use crate::{Balloon, BalloonConfig, BalloonUnit, StopReason};

fn model(check: impl Fn() + Sync + Send + 'static) {
    // A model of one schedule proves nothing, so the schedules are counted.
    let schedules = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let seen = Arc::clone(&schedules);
    sync::model(move || {
        seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        check();
    });
    let schedules = schedules.load(std::sync::atomic::Ordering::Relaxed);
    println!("{schedules} schedules");
    assert!(schedules > 10, "only {schedules} schedules");
}

/// Creates a balloon of `frames` single frames.
fn balloon(frames: u64) -> (Arc<Zone>, Arc<Balloon>, Arc<RecordingHost>) {
    let config =
        ZoneConfig { capacity: FrameCount(8), backing: Backing::Heap, ..ZoneConfig::default() };
    let zone = Arc::new(Zone::new(config).expect("a tiny zone"));
    let (unit, oom_frames) = (BalloonUnit::Frames, FrameCount(1));
    let config = BalloonConfig { unit, oom_frames, ..BalloonConfig::default() };
    let (balloon, host) = RecordingHost::of_balloon(&zone, config);
    assert_eq!(balloon.set_target(FrameCount(frames)).stop, StopReason::Reached);
    (zone, balloon, host)
}

/// Runs a balloon of one frame: `other` works on that frame in another thread, while `mine` works
/// on the balloon.
fn against<T: Send + 'static>(
    other: impl FnOnce(&Zone, Pfn) -> T + Send + 'static,
    mine: impl FnOnce(&Arc<Zone>, Arc<Balloon>, &RecordingHost, Box<dyn FnOnce() -> T>),
) {
    let (zone, balloon, host) = balloon(1);
    let pfn = balloon.ranges()[0].first;
    let theirs = {
        let zone = Arc::clone(&zone);
        thread::spawn(move || other(&zone, pfn))
    };
    mine(&zone, balloon, &host, Box::new(move || theirs.join().expect("no panic")));
}

/// Isolates the frame and migrates it, if possible. Returns how many frames were migrated.
fn migrate(zone: &Zone, pfn: Pfn) -> u64 {
    let mut batch: Vec<_> = zone.isolate(pfn).into_iter().collect();
    zone.migrate_pages(&mut batch, &mut |_| one(zone), MigrateMode::Async).migrated
}

fn one(zone: &Zone) -> Option<Frame<'_>> {
    zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok()
}

/// Checks all records after both threads are done.
fn check(zone: &Zone, balloon: &Balloon, host: &RecordingHost, actual: u64) {
    let stats = balloon.stats();
    assert_eq!((stats.actual.0, stats.isolated.0), (actual, 0));
    assert_eq!(host.has(), balloon.ranges());
    assert_eq!(zone.stats().in_use.0, actual);
    balloon.check().expect("consistent");
    zone.check().expect("consistent");
}

/// S-39, R-154, F4: a frame is dequeued or isolated, never both, and is counted exactly once at the
/// end.
#[test]
fn s39_dequeue_against_isolate() {
    model(|| {
        let isolate = |zone: &Zone, pfn| drop(zone.isolate(pfn));
        against(isolate, |zone, balloon, host, other| {
            let change = balloon.deflate();
            other();
            match change.stop {
                StopReason::Reached => check(zone, &balloon, host, 0),
                StopReason::Isolated { left } => {
                    assert_eq!(left, FrameCount(1));
                    check(zone, &balloon, host, 1);
                }
                other => panic!("{other:?}"),
            }
        });
    });
}

/// R-163, S-40: a frame under migration is not released, and the host's records are right in every
/// order.
#[test]
fn r163_dequeue_against_migrate() {
    model(|| {
        against(migrate, |zone, balloon, host, other| {
            let change = balloon.deflate();
            let migrated = other();
            let left = if change.stop == StopReason::Reached { 0 } else { 1 };
            assert!(migrated <= 1 && change.actual.0 == left, "{change:?}");
            check(zone, &balloon, host, left);
        });
    });
}

/// two scanners isolate one frame.
#[test]
fn r163_one_of_two_scanners_isolates_a_frame() {
    model(|| {
        let isolate = |zone: &Zone, pfn| zone.isolate(pfn).is_some();
        against(isolate, |zone, balloon, host, other| {
            drop(zone.isolate(balloon.ranges().first().map_or(Pfn(0), |range| range.first)));
            let _ = other();
            check(zone, &balloon, host, 1);
        });
    });
}

/// L-03, B10: the balloon is dropped while one of its frames is being migrated.
#[test]
fn l03_drop_against_migrate() {
    model(|| {
        against(migrate, |zone, balloon, host, other| {
            drop(balloon);
            other();
            assert!(host.has().is_empty(), "the host gave everything back");
            assert_eq!((zone.stats().in_use.0, zone.isolated()), (0, 0));
            zone.check().expect("consistent");
        });
    });
}

/// the zone reclaims from the balloon while it grows.
#[test]
fn r160_inflate_against_deflate_on_oom() {
    model(|| {
        let shrink = |zone: &Zone, _| zone.shrink(FrameCount(1), &frames::NoLocksHeld::promise()).0;
        against(shrink, |zone, balloon, host, other| {
            let change = balloon.set_target(FrameCount(2));
            let freed = other();
            let stats = balloon.stats();
            assert!(
                matches!(change.stop, StopReason::Reached | StopReason::Superseded),
                "{change:?}"
            );
            assert!(freed <= 1 && stats.actual == stats.target, "{stats:?}");
            check(zone, &balloon, host, stats.actual.0);
        });
    });
}

/// Two threads set targets at once: the balloon ends with the last one, whose report says
/// `Reached`.
#[test]
fn r160_two_targets_at_once() {
    model(|| {
        let (zone, balloon, host) = balloon(1);
        let theirs = {
            let balloon = Arc::clone(&balloon);
            thread::spawn(move || balloon.set_target(FrameCount(0)))
        };
        let mine = balloon.set_target(FrameCount(2));
        let theirs = theirs.join().expect("no panic");
        let stats = balloon.stats();
        let last = if stats.target.0 == 2 { mine } else { theirs };
        assert_eq!(
            (last.stop, last.actual, stats.actual),
            (StopReason::Reached, stats.target, stats.target)
        );
        check(&zone, &balloon, &host, stats.actual.0);
    });
}
