//! Creation and end of balloons.

use frames::MigrateMode;

use super::*;
use crate::{BalloonError, StopReason};

/// creation fails before anything is registered.
#[test]
fn r161_a_failed_creation_leaves_nothing() {
    let zone = zone();
    let mut owners = Vec::new();
    while let Ok(owner) = zone.reserve_owner() {
        owners.push(owner);
    }
    let (references, host) = (Arc::strong_count(&zone), Arc::new(RecordingHost::default()));
    let made = Balloon::new(Arc::clone(&zone), host.clone(), BalloonConfig::default());
    assert!(matches!(made, Err(BalloonError::Owners(_))));
    assert_eq!((Arc::strong_count(&zone), Arc::strong_count(&host)), (references, 1));
    assert_eq!((zone.shrinkable().0, zone.stats().in_use.0), (0, 0));
    owners.pop();
    assert!(
        Balloon::new(Arc::clone(&zone), host, BalloonConfig::default()).is_ok(),
        "one owner ID is enough"
    );
}

/// R-162, F3, L-06: balloons share nothing, and a dropped balloon leaves nothing.
#[test]
fn f3_a_hundred_balloons_leave_nothing_behind() {
    let zone = zone();
    // The first balloon fills the per-CPU lists, so that the counts below compare exactly.
    drop(balloon_of(&zone, BalloonUnit::Frames));
    let (before, references) = (zone.stats(), Arc::strong_count(&zone));
    for round in 0..100_u64 {
        let unit = if round % 2 == 0 { BalloonUnit::BlocksFirst } else { BalloonUnit::Frames };
        let (balloon, host) = inflated(&zone, unit, round * 7);
        let (second, second_host) = inflated(&zone, BalloonUnit::Frames, round);
        check(&balloon, &host);
        drop(balloon);
        assert!(host.has().is_empty(), "the host gave everything back first");
        assert_eq!(
            (zone.stats().in_use.0, second_host.has().len() as u64),
            (round, round),
            "the other balloon is unchanged"
        );
        drop(second);
    }
    zone.trim();
    let after = zone.stats();
    assert_eq!((after.in_use, after.cached.0, after.committed.0), (before.in_use, 0, 0));
    assert_eq!((Arc::strong_count(&zone), zone.shrinkable().0), (references, 0));
    zone.check().expect("consistent");
}

/// L-03: a balloon is dropped while two of its frames are isolated.
#[test]
fn a_dropped_balloon_releases_isolated_frames() {
    let zone = zone();
    let (balloon, host) = inflated(&zone, BalloonUnit::Frames, 4);
    let frames = listed(&balloon);
    let dropped = zone.isolate(frames[0]).expect("movable");
    let mut migrated = vec![zone.isolate(frames[1]).expect("movable")];
    drop(balloon);
    assert!(host.has().is_empty(), "the host gives isolated frames back, too");
    assert_eq!(zone.stats().in_use.0, 2, "only what migration holds");
    drop(dropped);
    let report = zone.migrate_pages(&mut migrated, &mut |_| one(&zone), MigrateMode::Async);
    assert_eq!((report.gone, report.migrated), (1, 0), "the frame has no owner to move it");
    assert_eq!((zone.stats().in_use.0, zone.isolated()), (0, 0));
    zone.check().expect("consistent");
}

#[test]
fn two_balloons_on_one_zone_share_it() {
    let zone = zone();
    let (one, one_host) = balloon_of(&zone, BalloonUnit::Frames);
    let (two, two_host) = balloon_of(&zone, BalloonUnit::Frames);
    assert_eq!(one.set_target(FrameCount(1000)).stop, StopReason::Reached);
    assert_eq!(two.set_target(FrameCount(1000)).stop, StopReason::Reached);
    assert!(move_one(&zone, listed(&two)[999]) || zone.stats().in_use.0 == 2000);
    check(&one, &one_host);
    check(&two, &two_host);
    // Frames of one balloon are not available to the other. A zone that is short asks its
    // shrinkers, and the other balloon is one.
    assert_eq!(one.set_target(FrameCount(4096)).stop, StopReason::Reached);
    assert_eq!(two.stats().oom_deflated_total, 1000 - two.stats().actual.0);
    assert_eq!(zone.stats().in_use.0, one.stats().actual.0 + two.stats().actual.0);
    assert!(zone.stats().in_use.0 <= 4096 - zone.watermarks().min.0);
    check(&one, &one_host);
    check(&two, &two_host);
}
