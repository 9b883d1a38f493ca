//! The time to allocate and free a frame, with one thread and with two.
//!
//! Run with `cargo run --release -p memzip-frames --example speed`.

use std::time::Instant;

use fastrand::Rng;
use frames::{FrameCount, MigrateType, Reclaim, Zone, ZoneConfig};

const ROUNDS: u32 = 5_000_000;

fn main() {
    let zone = Zone::new(ZoneConfig { capacity: FrameCount(1 << 18), ..ZoneConfig::default() })
        .expect("address space");
    let take = || zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).expect("free frames");
    let pair = |rounds: u32| {
        let start = Instant::now();
        (0..rounds).for_each(|_| drop(take()));
        start.elapsed().as_nanos() as f64 / f64::from(rounds)
    };
    println!("empty zone, take and free:              {:6.1} ns", pair(ROUNDS));
    let held: Vec<_> = (0..20_000).map(|_| take()).collect();
    println!("20000 in use, take and free:            {:6.1} ns", pair(ROUNDS));
    std::thread::scope(|scope| {
        let both = [scope.spawn(|| pair(ROUNDS)), scope.spawn(|| pair(ROUNDS))];
        both.into_iter().for_each(|one| {
            println!(
                "the same, one of two threads:           {:6.1} ns",
                one.join().expect("no panic")
            );
        });
    });
    let start = Instant::now();
    let mut many: Vec<_> = (0..200_000).map(|_| take()).collect();
    println!(
        "take 200000 in a row, each:             {:6.1} ns",
        start.elapsed().as_nanos() as f64 / 200_000.0
    );
    Rng::with_seed(1).shuffle(&mut many);
    let start = Instant::now();
    let rounds = 2_000_000;
    for round in 0..rounds {
        let at = round % many.len();
        // Allocate the new frame before the old one is freed.
        many[at] = take();
    }
    println!(
        "replace a random one, each:             {:6.1} ns",
        start.elapsed().as_nanos() as f64 / rounds as f64
    );
    let start = Instant::now();
    let count = many.len() as f64;
    drop(many);
    println!(
        "free 200000 in random order, each:      {:6.1} ns",
        start.elapsed().as_nanos() as f64 / count
    );
    drop(held);
}
