//! Measures the cost of giving memory to the OS and taking it back. Run with `cargo run --release
//! -p memzip-balloon --example inflate`.

#[path = "../tests/touched/mod.rs"]
mod touched;

use std::time::Instant;

use balloon::{BalloonUnit, StopReason};
use frames::{CompactRequest, FrameCount};

use touched::{balloon, high_balloon, touch, zone};

/// The memory that is touched and then ballooned. Units: bytes.
const SIZE: u64 = 1 << 30;

/// The capacity above that. Units: bytes.
const MORE: u64 = 64 << 20;

/// Returns the resident memory of this process. Units: bytes.
fn resident() -> u64 {
    sys::rss::resident_bytes().unwrap_or(0)
}

/// Runs `work`. Returns its milliseconds, and the MiB by which the resident set shrank.
fn measured(work: impl FnOnce()) -> (f64, f64) {
    let (start, before) = (Instant::now(), resident());
    work();
    let time = start.elapsed().as_secs_f64() * 1e3;
    (time, (before as f64 - resident() as f64) / f64::from(1 << 20))
}

/// Measures inflating and deflating 1 GiB.
fn both_ways(unit: BalloonUnit) {
    let zone = zone(SIZE + MORE);
    touch(&zone, SIZE, 1);
    let balloon = balloon(&zone, unit);
    let (time, less) = measured(|| {
        assert_eq!(balloon.set_target(FrameCount::holding(SIZE)).stop, StopReason::Reached)
    });
    println!("{unit:?}: inflate 1 GiB {time:8.1} ms, resident set {less:7.1} MiB smaller");
    let (time, _) = measured(|| assert_eq!(balloon.deflate().stop, StopReason::Reached));
    println!("{unit:?}: deflate 1 GiB {time:8.1} ms");
}

/// Measures the migration of ballooned frames by frame compaction.
fn moves() {
    let zone = zone(SIZE + MORE);
    touch(&zone, SIZE, 1);
    let balloon = high_balloon(&zone, SIZE / 2);
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
    both_ways(BalloonUnit::BlocksFirst);
    both_ways(BalloonUnit::Frames);
    moves();
}
