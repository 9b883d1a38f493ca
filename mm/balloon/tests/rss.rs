//! Ballooned memory leaves the process: tests of the resident set.

#![cfg(not(loom))]
#![forbid(unsafe_code)]

mod touched;

use balloon::{BalloonUnit, StopReason};
use frames::{CompactRequest, FRAME_SIZE, FrameCount, MigrateType, PAGEBLOCK_SIZE, Reclaim};

use touched::{balloon, high_balloon, touch, zone};

/// The memory that is touched, freed and then ballooned. Units: bytes.
const SIZE: u64 = 128 << 20;

/// The tolerance for other memory of the process. Units: bytes.
const SLACK: i64 = 4 << 20;

/// Returns the resident memory of this process. Units: bytes.
fn resident() -> i64 {
    i64::try_from(sys::rss::resident_bytes().expect("Linux reports it")).expect("fits")
}

/// Inflates and deflates: the memory leaves the process, and can be used again.
fn memory_leaves_and_comes_back(unit: BalloonUnit, target: u64) {
    let zone = zone(2 * SIZE);
    let balloon = balloon(&zone, unit);
    touch(&zone, SIZE, 0x5a);
    let full = resident();
    assert!(zone.stats().free_committed.bytes() >= SIZE, "freed, but still committed");
    let change = balloon.set_target(FrameCount::holding(target));
    assert_eq!((change.stop, change.actual.bytes()), (StopReason::Reached, target));
    let less = full - resident();
    println!("{unit:?}: {target} bytes ballooned, resident set {less} bytes smaller");
    assert!(
        (less - i64::try_from(target).expect("fits")).abs() <= SLACK,
        "{target} ballooned, {less} less resident"
    );
    // The memory can be allocated and written again.
    assert_eq!(balloon.deflate().stop, StopReason::Reached);
    touch(&zone, SIZE, 0xa5);
    assert!(resident() >= full - SLACK, "the memory is back");
    zone.check().expect("consistent");
}

/// Ballooned frames migrate from the top of a touched arena to touched frames below, whose memory
/// leaves the process.
fn memory_stays_away_while_ballooned_frames_move() {
    let zone = zone(2 * SIZE);
    touch(&zone, SIZE, 0x5a);
    let balloon = high_balloon(&zone, SIZE / 2);
    let before = resident();
    let report = zone.compact(CompactRequest::default());
    let moved = FrameCount(balloon.stats().migrated_total);
    assert!(moved.bytes() >= SIZE / 4 && report.frames_moved == moved.0, "{report:?}");
    // Each migration decommits the new frame and commits none: the old frame had no memory, and
    // nothing is copied.
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

/// Half of each pageblock is in use, and as much memory again is untouched: committed frames are
/// taken first, for both units.
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
    // Decommits frames that were allocated but not touched.
    zone.trim();
    let (balloon, full) = (balloon(&zone, unit), resident());
    let target = SIZE / 2 - PAGEBLOCK_SIZE as u64;
    assert_eq!(balloon.set_target(FrameCount::holding(target)).stop, StopReason::Reached);
    let less = full - resident();
    println!(
        "{unit:?}: {target} bytes ballooned out of scattered frames, \
         resident set {less} bytes smaller"
    );
    assert!(
        (less - i64::try_from(target).expect("fits")).abs() <= SLACK,
        "{target} ballooned, {less} less resident"
    );
}

/// One test, since all parts measure the same process.
#[test]
#[cfg_attr(miri, ignore = "reads the resident set")]
fn ballooned_memory_leaves_the_resident_set() {
    memory_leaves_and_comes_back(BalloonUnit::BlocksFirst, SIZE);
    memory_leaves_and_comes_back(BalloonUnit::Frames, SIZE / 2 + 5 * FRAME_SIZE as u64);
    // A target that is not whole blocks ends with single frames.
    memory_leaves_and_comes_back(BalloonUnit::BlocksFirst, SIZE / 2 + PAGEBLOCK_SIZE as u64 / 4);
    memory_stays_away_while_ballooned_frames_move();
    memory_goes_before_room_that_has_none(BalloonUnit::BlocksFirst);
    memory_goes_before_room_that_has_none(BalloonUnit::Frames);
}
