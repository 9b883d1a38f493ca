//! The balloon's protocols under loom, with the real code on pageblocks of four 64-byte frames.

use std::sync::Arc;

use frames::{Backing, Frame, FrameCount, MigrateType, Mode, Reclaim, Zone, ZoneConfig};
use sync::thread;

use crate::record::Recorder;
use crate::{Balloon, BalloonConfig, Stop, Unit};

fn model(check: impl Fn() + Sync + Send + 'static) {
    // A model of one schedule proves nothing: count them.
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

/// A balloon of single frames.
fn balloon(frames: u64) -> (Arc<Zone>, Arc<Balloon>, Arc<Recorder>) {
    let config = ZoneConfig { capacity: FrameCount(8), backing: Backing::Heap, ..ZoneConfig::default() };
    let zone = Arc::new(Zone::new(config).expect("a tiny zone"));
    let host = Arc::new(Recorder::default());
    let config = BalloonConfig { unit: Unit::Frames, oom_frames: FrameCount(1), ..BalloonConfig::default() };
    let balloon = Balloon::new(Arc::clone(&zone), host.clone(), config).expect("a number is left");
    assert_eq!(balloon.set_target(FrameCount(frames)).stop, Stop::Reached);
    (zone, balloon, host)
}

fn one(zone: &Zone) -> Option<Frame<'_>> {
    zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok()
}

/// Nobody is inside any more.
fn check(zone: &Zone, balloon: &Balloon, host: &Recorder, actual: u64) {
    let stats = balloon.stats();
    assert_eq!((stats.actual.0, stats.isolated.0), (actual, 0));
    assert_eq!(host.has(), balloon.pieces());
    assert_eq!(zone.stats().in_use.0, actual);
    balloon.check().expect("consistent");
    zone.check().expect("consistent");
}

/// S-39, R-154, F4: a frame is dequeued or isolated, never both, and is on exactly one side of the books at the end.
#[test]
fn s39_dequeue_against_isolate() {
    model(|| {
        let (zone, balloon, host) = balloon(1);
        let pfn = balloon.pieces()[0].first;
        let other = {
            let zone = Arc::clone(&zone);
            thread::spawn(move || drop(zone.isolate(pfn)))
        };
        let change = balloon.deflate();
        other.join().expect("no panic");
        match change.stop {
            Stop::Reached => check(&zone, &balloon, &host, 0),
            Stop::Isolated { left } => {
                assert_eq!(left, FrameCount(1));
                check(&zone, &balloon, &host, 1);
            }
            other => panic!("{other:?}"),
        }
    });
}

/// R-163, S-40: a frame on its way to another place is not released under the migration, and the host's books balance in each order.
#[test]
fn r163_dequeue_against_migrate() {
    model(|| {
        let (zone, balloon, host) = balloon(1);
        let pfn = balloon.pieces()[0].first;
        let other = {
            let zone = Arc::clone(&zone);
            thread::spawn(move || {
                let mut batch: Vec<_> = zone.isolate(pfn).into_iter().collect();
                zone.migrate_pages(&mut batch, &mut |_| one(&zone), Mode::Async).migrated
            })
        };
        let change = balloon.deflate();
        let migrated = other.join().expect("no panic");
        let left = if change.stop == Stop::Reached { 0 } else { 1 };
        assert!(migrated <= 1 && change.actual.0 == left, "{change:?}");
        check(&zone, &balloon, &host, left);
    });
}

/// two scanners and one frame.
#[test]
fn r163_one_of_two_scanners_has_it() {
    model(|| {
        let (zone, balloon, host) = balloon(1);
        let pfn = balloon.pieces()[0].first;
        let other = {
            let zone = Arc::clone(&zone);
            thread::spawn(move || zone.isolate(pfn).is_some())
        };
        let mine = zone.isolate(pfn);
        drop(mine);
        let _ = other.join().expect("no panic");
        check(&zone, &balloon, &host, 1);
    });
}

/// L-03, B10 for the balloon: it goes away while one of its frames is being moved.
#[test]
fn l03_drop_against_migrate() {
    model(|| {
        let (zone, balloon, host) = balloon(1);
        let pfn = balloon.pieces()[0].first;
        let other = {
            let zone = Arc::clone(&zone);
            thread::spawn(move || {
                let mut batch: Vec<_> = zone.isolate(pfn).into_iter().collect();
                zone.migrate_pages(&mut batch, &mut |_| one(&zone), Mode::Async);
            })
        };
        drop(balloon);
        other.join().expect("no panic");
        assert!(host.has().is_empty(), "the host gave everything back");
        assert_eq!((zone.stats().in_use.0, zone.isolated()), (0, 0));
        zone.check().expect("consistent");
    });
}

/// the zone needs memory while the balloon grows.
#[test]
fn r160_growing_against_giving_back() {
    model(|| {
        let (zone, balloon, host) = balloon(1);
        let other = {
            let zone = Arc::clone(&zone);
            thread::spawn(move || zone.shrink(FrameCount(1), &frames::NoLocksHeld::promise()).0)
        };
        let change = balloon.set_target(FrameCount(2));
        let freed = other.join().expect("no panic");
        let stats = balloon.stats();
        assert!(matches!(change.stop, Stop::Reached | Stop::Superseded), "{change:?}");
        assert!(freed <= 1 && stats.actual == stats.target, "{stats:?}");
        check(&zone, &balloon, &host, stats.actual.0);
    });
}
