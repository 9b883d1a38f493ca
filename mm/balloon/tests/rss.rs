//! The memory really leaves the process: the resident set says so.

#![cfg(not(loom))]
#![forbid(unsafe_code)]

use std::sync::Arc;

use balloon::{Balloon, BalloonConfig, OsHost, Stop, Unit};
use frames::{
    Backing, CompactRequest, Extents, FRAME_SIZE, FrameCount, MigrateType, OwnerWords, PAGEBLOCK_SIZE, Reclaim, Shape,
    Zone, ZoneConfig,
};

/// What is filled, freed, and then taken out.
const SIZE: u64 = 128 << 20;

/// Other memory of the process that may come and go meanwhile.
const SLACK: i64 = 4 << 20;

fn resident() -> i64 {
    i64::try_from(sys::rss::resident_bytes().expect("Linux tells")).expect("fits")
}

/// A zone that keeps the memory of all free pageblocks, so that only the balloon can be what gives it away.
fn zone() -> Arc<Zone> {
    let config = ZoneConfig {
        capacity: FrameCount::holding(2 * SIZE),
        keep_blocks: u32::MAX,
        backing: Backing::Anonymous,
        ..ZoneConfig::default()
    };
    Arc::new(Zone::new(config).expect("address space"))
}

/// Writes `SIZE` bytes into frames and frees them again.
fn touch(zone: &Arc<Zone>, byte: u8) {
    let owner = zone.reserve_owner().expect("a number");
    let extents = Extents::new(owner, 1 << 17, OwnerWords::default(), Backing::Anonymous).expect("address space");
    let ids: Vec<_> = (0..SIZE / FRAME_SIZE as u64)
        .map(|_| {
            let mut extent = extents.create(Shape::Single, 0).expect("numbers are left");
            extent.attach(0, Reclaim::NotAllowed).expect("frames are left");
            extent.pieces_mut(0..FRAME_SIZE).expect("attached").0.fill(byte);
            extent.id()
        })
        .collect();
    ids.iter().for_each(|&id| extents.try_exclusive(id).expect("nobody is inside").destroy());
    zone.drain();
}

fn memory_leaves_and_comes_back(unit: Unit, target: u64) {
    let zone = zone();
    let config = BalloonConfig { unit, ..BalloonConfig::default() };
    let balloon = Balloon::new(Arc::clone(&zone), Arc::new(OsHost), config).expect("room");
    touch(&zone, 0x5a);
    let full = resident();
    assert!(zone.stats().free_committed.bytes() >= SIZE, "free, and still ours");
    let change = balloon.set_target(FrameCount::holding(target));
    assert_eq!((change.stop, change.actual.bytes()), (Stop::Reached, target));
    let less = full - resident();
    println!("{unit:?}: {target} bytes ballooned, resident set {less} bytes smaller");
    assert!((less - i64::try_from(target).expect("fits")).abs() <= SLACK, "{target} ballooned, {less} less resident");
    // What was given away can be had and written again.
    assert_eq!(balloon.deflate().stop, Stop::Reached);
    touch(&zone, 0xa5);
    assert!(resident() >= full - SLACK, "the memory is back");
    zone.check().expect("consistent");
}

/// Ballooned frames at the top of a touched arena move down into touched frames, whose memory leaves in their place.
fn memory_stays_away_while_ballooned_frames_move() {
    let zone = zone();
    touch(&zone, 0x5a);
    let below: Vec<_> = (0..SIZE / 2 / FRAME_SIZE as u64)
        .map(|_| zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).expect("free frames"))
        .collect();
    let config = BalloonConfig { unit: Unit::Frames, ..BalloonConfig::default() };
    let balloon = Balloon::new(Arc::clone(&zone), Arc::new(OsHost), config).expect("room");
    assert_eq!(balloon.set_target(FrameCount::holding(SIZE / 2)).stop, Stop::Reached);
    drop(below);
    let before = resident();
    let report = zone.compact(CompactRequest::default());
    let moved = FrameCount(balloon.stats().migrated_total);
    assert!(moved.bytes() >= SIZE / 4 && report.frames_moved == moved.0, "{report:?}");
    // Each move gives one frame's memory away and takes none: the old frame had none, and nothing was copied into the new one.
    let less = before - resident();
    println!("{} bytes of ballooned frames moved, resident set {less} bytes smaller", moved.bytes());
    assert!((less - i64::try_from(moved.bytes()).expect("fits")).abs() <= SLACK, "{moved} moved, {less} less resident");
    assert_eq!(balloon.deflate().stop, Stop::Reached);
    zone.check().expect("consistent");
}

/// One test, since both halves measure the process they share.
#[test]
#[cfg_attr(miri, ignore = "looks at the OS")]
fn ballooned_memory_leaves_the_resident_set_and_can_be_used_again() {
    memory_leaves_and_comes_back(Unit::BlocksFirst, SIZE);
    memory_leaves_and_comes_back(Unit::Frames, SIZE / 2 + 5 * FRAME_SIZE as u64);
    // A remainder below a block is single frames.
    memory_leaves_and_comes_back(Unit::BlocksFirst, SIZE / 2 + PAGEBLOCK_SIZE as u64 / 4);
    memory_stays_away_while_ballooned_frames_move();
}
