//! The soak: readers and writers on two threads, while objects and frames are compacted, frames are isolated, moved and put back, a balloon breathes, and pools
//! are destroyed and made again, all in one zone at its limit and all the time. Every byte is verified.
//!
//! `cargo xtask soak` builds and starts it; half an hour is the usual length. The seed names the run as far as threads allow.

#![forbid(unsafe_code)]

mod content;
mod movers;
mod place;
mod tally;
mod worker;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use frames::{FrameCount, Zone, ZoneConfig};
use place::Place;
use tally::Tally;

/// Pools in the zone.
const PLACES: usize = 3;
/// Threads that store, read, overwrite and free.
const WORKERS: usize = 2;

/// Runs everything at once for a long time and verifies every byte.
#[derive(Debug, Parser)]
struct Args {
    /// How long
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Names the sequence of operations
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Limit of the zone. Units: MiB
    #[arg(long, default_value_t = 192)]
    limit: u64,
}

/// What all threads share.
struct World {
    zone: Arc<Zone>,
    places: Vec<Place>,
    tally: Tally,
    /// Held shared by whoever may have the zone ask its pools for room; alone, while the books of a pool are checked.
    shrinking: RwLock<()>,
    stop: AtomicBool,
    seed: u64,
}

impl World {
    fn new(args: &Args) -> Self {
        let limit = FrameCount::holding(args.limit << 20);
        // Room above the limit, so that the limit and not the arena is what refuses.
        let config = ZoneConfig {
            capacity: FrameCount(limit.0 * 2),
            limit: Some(limit),
            ..ZoneConfig::default()
        };
        let zone = Arc::new(Zone::new(config).expect("address space for a small zone"));
        let places = (0..PLACES).map(|_| Place::new(&zone)).collect();
        Self {
            zone,
            places,
            tally: Tally::default(),
            shrinking: RwLock::new(()),
            stop: AtomicBool::new(false),
            seed: args.seed,
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let world = World::new(&args);
    let end = Instant::now() + Duration::from_secs_f64(args.minutes * 60.0);
    println!("soak: {} minutes, seed {}, limit {} MiB", args.minutes, args.seed, args.limit);
    let panicked = thread::scope(|scope| {
        let mut threads = Vec::new();
        for number in 0..WORKERS {
            let world = &world;
            threads.push(scope.spawn(move || worker::run(world, number)));
        }
        for mover in movers::ALL {
            let world = &world;
            threads.push(scope.spawn(move || mover(world)));
        }
        while Instant::now() < end && threads.iter().all(|thread| !thread.is_finished()) {
            thread::sleep(
                Duration::from_secs(30).min(end.saturating_duration_since(Instant::now())),
            );
            println!("{}", world.tally.line(&world.zone));
        }
        world.stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(thread::ScopedJoinHandle::join).filter(Result::is_err).count()
    });
    if panicked > 0 {
        eprintln!("soak: FAILED: {panicked} threads found something wrong");
        return ExitCode::FAILURE;
    }
    finish(world)
}

/// Verifies all that is left, frees it, and proves that nothing was lost or invented.
fn finish(world: World) -> ExitCode {
    let left: u64 = world.places.iter().map(|place| place.verify_all()).sum();
    world.places.iter().for_each(Place::free_all);
    let in_use = world.zone.stats().in_use;
    world.zone.check().expect("the zone is consistent");
    println!("{}", world.tally.line(&world.zone));
    if in_use.0 != 0 || world.zone.isolated() != 0 {
        eprintln!(
            "soak: FAILED: {in_use} are in use and {} isolated after everything was freed",
            world.zone.isolated()
        );
        return ExitCode::FAILURE;
    }
    println!("soak: ok, {left} objects verified at the end, no frame lost or invented");
    ExitCode::SUCCESS
}
