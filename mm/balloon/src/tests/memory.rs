//! Which frames a balloon takes first, where it stops, and the memory of its records.

use super::*;
use crate::{BalloonSource, Shortage, StopReason};

/// Free committed frames go first, even scattered ones: untouched frames hold no memory to give.
#[test]
fn committed_frames_go_before_untouched_ones() {
    for (unit, movable) in [
        (BalloonUnit::BlocksFirst, true),
        (BalloonUnit::Frames, true),
        (BalloonUnit::BlocksFirst, false),
    ] {
        let zone = if movable { zone() } else { still_zone() };
        // Four pageblocks were used; every eighth frame still is and cannot be moved.
        let mut used: Vec<_> = (0..2048).filter_map(|_| one(&zone)).collect();
        used.retain(|frame| frame.pfn().0 % 8 == 0);
        zone.drain();
        let held = |zone: &Zone| zone.stats().committed.0 - zone.stats().ballooned.0;
        let before = held(&zone);
        let (balloon, host) = inflated(&zone, unit, 1024);
        assert_eq!(before - held(&zone), 1024, "{unit:?}: ballooned frames were not committed");
        check(&balloon, &host);
        // The rest is untouched frames.
        let change = balloon.set_target(FrameCount(3000));
        assert_eq!((change.stop, change.actual.0), (StopReason::Reached, 3000), "{unit:?}");
        assert!(
            held(&zone) < 256 + 512,
            "more than the used frames and one open block: {}",
            held(&zone)
        );
        check(&balloon, &host);
    }
}

/// In a zone without a limit, ballooning untouched frames would free nothing.
#[test]
fn committed_source_stops_at_committed_frames() {
    for unit in [BalloonUnit::BlocksFirst, BalloonUnit::Frames] {
        let zone = zone();
        let source = BalloonSource::CommittedFrames;
        let config = BalloonConfig { unit, source, ..BalloonConfig::default() };
        let (balloon, host) = RecordingHost::of_balloon(&zone, config);
        assert_eq!(balloon.max_target().0, 0);
        let change = balloon.set_target(FrameCount(1024));
        assert_eq!(
            (change.stop, change.is_capped(), change.actual.0),
            (StopReason::Reached, true, 0)
        );
        assert_eq!(zone.stats().committed.0, 0, "no frame was committed for it");

        let mut used: Vec<_> = (0..1024).filter_map(|_| one(&zone)).collect();
        used.retain(|frame| frame.pfn().0 % 2 == 0);
        zone.drain();
        assert_eq!(balloon.max_target().0, 512);
        let change = balloon.set_target(FrameCount(u64::MAX));
        assert_eq!(
            (change.stop, change.target.0, change.actual.0),
            (StopReason::Reached, 512, 512),
            "{unit:?}"
        );
        let stats = zone.stats();
        assert_eq!((stats.committed.0, stats.ballooned.0, stats.in_use.0), (1024, 512, 1024));
        check(&balloon, &host);
        // Another owner allocates frames after the target was set: the resize stops and reports
        // why.
        let change = balloon.start_resize(FrameCount(1024)).expect("not called by the host").run();
        assert_eq!((change.stop, change.target.0), (StopReason::Reached, 512));
        drop(used);
        zone.drain();
        let resize = balloon.start_resize(FrameCount(900)).expect("not called by the host");
        let _taken: Vec<_> = (0..400).filter_map(|_| one(&zone)).collect();
        zone.drain();
        let change = resize.run();
        assert_eq!(
            (change.stop, change.actual.0),
            (StopReason::NoMemory(Shortage::Memory), 624),
            "{unit:?}"
        );
        assert_eq!(zone.stats().committed.0, 1024);
        check(&balloon, &host);
    }
}

/// All memory that grows with the balloon is counted, and freed when the balloon is empty.
#[test]
fn records_are_counted_and_freed() {
    let zone = zone();
    let (balloon, host) = balloon_of(&zone, BalloonUnit::Frames);
    let round = || {
        assert_eq!(balloon.set_target(FrameCount(3000)).stop, StopReason::Reached);
        let before = (balloon.stats().record_bytes, zone.stats().descriptor_bytes);
        let isolated = listed(&balloon).last().and_then(|&pfn| zone.isolate(pfn)).expect("movable");
        let after = (balloon.stats().record_bytes, zone.stats().descriptor_bytes);
        assert!(
            before.0 >= 3000 / 8 && after.0 > before.0,
            "isolated frames are counted, too: {before:?} {after:?}"
        );
        assert_eq!(after.1 - before.1, after.0 - before.0);
        drop(isolated);
        check(&balloon, &host);
        assert_eq!(balloon.deflate().stop, StopReason::Reached);
        assert_eq!(balloon.stats().record_bytes, 0);
        zone.trim();
        zone.stats().descriptor_bytes
    };
    // The first round also commits tables of the zone, which stay.
    assert_eq!(round(), round());
}

#[test]
fn records_of_blocks_are_counted() {
    let zone = zone();
    let (balloon, host) = inflated(&zone, BalloonUnit::BlocksFirst, 2048);
    assert!(balloon.stats().record_bytes >= 4 * size_of::<frames::OwnedBlock>() as u64);
    check(&balloon, &host);
}
