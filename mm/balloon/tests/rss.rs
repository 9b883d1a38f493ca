//! The memory really leaves the process: the resident set says so.

#![cfg(not(loom))]
#![forbid(unsafe_code)]

mod touched;

use balloon::{BalloonUnit, StopReason};
use frames::{CompactRequest, FRAME_SIZE, FrameCount, MigrateType, PAGEBLOCK_SIZE, Reclaim};
use touched::{balloon, high_balloon, touch, zone};

/// What is filled, freed, and then taken out.
const SIZE: u64 = 128 << 20;

/// Other memory of the process that may come and go meanwhile.
const SLACK: i64 = 4 << 20;

fn resident() -> i64 {
    i64::try_from(sys::rss::resident_bytes().expect("Linux tells")).expect("fits")
}

fn memory_leaves_and_comes_back(unit: BalloonUnit, target: u64) {
    let zone = zone(2 * SIZE);
    let balloon = balloon(&zone, unit);
    touch(&zone, SIZE, 0x5a);
    let full = resident();
    assert!(zone.stats().free_committed.bytes() >= SIZE, "free, and still ours");
    let change = balloon.set_target(FrameCount::holding(target));
    assert_eq!((change.stop, change.actual.bytes()), (StopReason::Reached, target));
    let less = full - resident();
    println!("{unit:?}: {target} bytes ballooned, resident set {less} bytes smaller");
    assert!(
        (less - i64::try_from(target).expect("fits")).abs() <= SLACK,
        "{target} ballooned, {less} less resident"
    );
    // What was given away can be had and written again.
    assert_eq!(balloon.deflate().stop, StopReason::Reached);
    touch(&zone, SIZE, 0xa5);
    assert!(resident() >= full - SLACK, "the memory is back");
    zone.check().expect("consistent");
}

/// Ballooned frames at the top of a touched arena move down into touched frames, whose memory leaves in their place.
fn memory_stays_away_while_ballooned_frames_move() {
    let zone = zone(2 * SIZE);
    touch(&zone, SIZE, 0x5a);
    let balloon = high_balloon(&zone, SIZE / 2);
    let before = resident();
    let report = zone.compact(CompactRequest::default());
    let moved = FrameCount(balloon.stats().migrated_total);
    assert!(moved.bytes() >= SIZE / 4 && report.frames_moved == moved.0, "{report:?}");
    // Each move gives one frame's memory away and takes none: the old frame had none, and nothing was copied into the new one.
    let less = before - resident();
    println!(
        "{} bytes of ballooned frames moved, resident set {less} bytes smaller",
        moved.bytes()
    );
    assert!(
        (less - i64::try_from(moved.bytes()).expect("fits")).abs() <= SLACK,
        "{moved} moved, {less} less resident"
    );
    assert_eq!(balloon.deflate().stop, StopReason::Reached);
    zone.check().expect("consistent");
}

/// Half of each pageblock is in use, and as much again was never touched: what was touched goes first, whichever way.
fn memory_goes_before_room_that_has_none(unit: BalloonUnit) {
    let zone = zone(2 * SIZE);
    touch(&zone, SIZE, 0x5a);
    let mut used: Vec<_> =
        std::iter::from_fn(|| zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok())
            .collect();
    used.retain(|frame| {
        frame.pfn().0 % 2 == 0 && u64::from(frame.pfn().0) < SIZE / FRAME_SIZE as u64
    });
    zone.drain();
    // What was only handed out, and never touched.
    zone.trim();
    let (balloon, full) = (balloon(&zone, unit), resident());
    let target = SIZE / 2 - PAGEBLOCK_SIZE as u64;
    assert_eq!(balloon.set_target(FrameCount::holding(target)).stop, StopReason::Reached);
    let less = full - resident();
    println!(
        "{unit:?}: {target} bytes ballooned out of scattered frames, resident set {less} bytes smaller"
    );
    assert!(
        (less - i64::try_from(target).expect("fits")).abs() <= SLACK,
        "{target} ballooned, {less} less resident"
    );
}

/// One test, since both halves measure the process they share.
#[test]
#[cfg_attr(miri, ignore = "looks at the OS")]
fn ballooned_memory_leaves_the_resident_set_and_can_be_used_again() {
    memory_leaves_and_comes_back(BalloonUnit::BlocksFirst, SIZE);
    memory_leaves_and_comes_back(BalloonUnit::Frames, SIZE / 2 + 5 * FRAME_SIZE as u64);
    // A remainder below a block is single frames.
    memory_leaves_and_comes_back(BalloonUnit::BlocksFirst, SIZE / 2 + PAGEBLOCK_SIZE as u64 / 4);
    memory_stays_away_while_ballooned_frames_move();
    memory_goes_before_room_that_has_none(BalloonUnit::BlocksFirst);
    memory_goes_before_room_that_has_none(BalloonUnit::Frames);
}
