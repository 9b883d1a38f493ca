//! What it costs to give memory to the OS and to take it back. Run with `cargo run --release -p memzip-balloon --example lend`.

use std::sync::Arc;
use std::time::Instant;

use balloon::{Balloon, BalloonConfig, OsHost, Stop, Unit};
use frames::{
    Backing, CompactRequest, Extents, FRAME_SIZE, FrameCount, MigrateType, OwnerWords, Reclaim, Shape, Zone, ZoneConfig,
};

/// Touched before, so that there is memory to give.
const SIZE: u64 = 1 << 30;

fn zone() -> Arc<Zone> {
    let config =
        ZoneConfig { capacity: FrameCount::holding(SIZE + (64 << 20)), keep_blocks: u32::MAX, ..ZoneConfig::default() };
    Arc::new(Zone::new(config).expect("address space"))
}

/// Writes a byte to each frame of the first `SIZE` bytes, and frees them.
fn touch(zone: &Arc<Zone>) {
    let owner = zone.reserve_owner().expect("a number");
    let extents = Extents::new(owner, 1 << 19, OwnerWords::default(), Backing::Anonymous).expect("address space");
    let ids: Vec<_> = (0..SIZE / FRAME_SIZE as u64)
        .map(|_| {
            let mut extent = extents.create(Shape::Single, 0).expect("numbers are left");
            extent.attach(0, Reclaim::NotAllowed).expect("frames are left");
            extent.pieces_mut(0..1).expect("attached").0.fill(1);
            extent.id()
        })
        .collect();
    ids.iter().for_each(|&id| extents.try_exclusive(id).expect("nobody is inside").destroy());
    zone.drain();
}

fn resident() -> u64 {
    sys::rss::resident_bytes().unwrap_or(0)
}

/// Milliseconds of `work`, and MiB by which the resident set shrank.
fn measured(work: impl FnOnce()) -> (f64, f64) {
    let (start, before) = (Instant::now(), resident());
    work();
    let time = start.elapsed().as_secs_f64() * 1e3;
    (time, (before as f64 - resident() as f64) / f64::from(1 << 20))
}

fn both_ways(unit: Unit) {
    let zone = zone();
    touch(&zone);
    let config = BalloonConfig { unit, ..BalloonConfig::default() };
    let balloon = Balloon::new(zone, Arc::new(OsHost), config).expect("room");
    let (time, less) = measured(|| assert_eq!(balloon.set_target(FrameCount::holding(SIZE)).stop, Stop::Reached));
    println!("{unit:?}: inflate 1 GiB {time:8.1} ms, resident set {less:7.1} MiB smaller");
    let (time, _) = measured(|| assert_eq!(balloon.deflate().stop, Stop::Reached));
    println!("{unit:?}: deflate 1 GiB {time:8.1} ms");
}

fn moves() {
    let zone = zone();
    touch(&zone);
    let below: Vec<_> = (0..SIZE / 2 / FRAME_SIZE as u64)
        .map(|_| zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).expect("free frames"))
        .collect();
    let config = BalloonConfig { unit: Unit::Frames, ..BalloonConfig::default() };
    let balloon = Balloon::new(Arc::clone(&zone), Arc::new(OsHost), config).expect("room");
    assert_eq!(balloon.set_target(FrameCount::holding(SIZE / 2)).stop, Stop::Reached);
    drop(below);
    let (time, less) = measured(|| {
        zone.compact(CompactRequest::default());
    });
    let moved = balloon.stats().migrated_total;
    println!(
        "Frames: {moved} moved in {time:.1} ms, {:.2} us each, resident set {less:.1} MiB smaller",
        time * 1e3 / moved as f64
    );
}

fn main() {
    both_ways(Unit::BlocksFirst);
    both_ways(Unit::Frames);
    moves();
}
