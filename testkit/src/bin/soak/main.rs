//! The soak: threads store, read, overwrite and free objects in one zone at its limit and verify
//! every
//! byte.
//!
//! Meanwhile other threads compact objects and frames, isolate, migrate and put back frames,
//! allocate contiguous ranges, inflate and deflate balloons, and destroy and create pools.
//!
//! `cargo xtask soak` builds and starts it; half an hour is the usual duration. The seed repeats
//! a run as far as thread scheduling allows.

#![forbid(unsafe_code)]

mod content;
mod counters;
mod maintenance;
mod pool_slot;
mod worker;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use frames::{FrameCount, Zone, ZoneConfig};

use counters::Counters;
use pool_slot::PoolSlot;

/// Number of pools in the zone.
const POOLS: usize = 3;
/// Number of threads that store, read, overwrite and free.
const WORKERS: usize = 2;

/// Run all operations at once for a long time and verify every byte
#[derive(Debug, Parser)]
struct Args {
    /// Duration in minutes
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Seed of the sequence of operations
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Limit of the zone in MiB
    #[arg(long, default_value_t = 192)]
    limit: u64,
}

/// State shared by all threads.
struct Soak {
    zone: Arc<Zone>,
    slots: Vec<PoolSlot>,
    counters: Counters,
    /// Held shared by threads that may run the zone's shrinkers, and exclusively while a pool's
    /// invariants are checked.
    shrinking: RwLock<()>,
    stop: AtomicBool,
    seed: u64,
}

impl Soak {
    fn new(args: &Args) -> Self {
        let limit = FrameCount::holding(args.limit << 20);
        // The arena is larger than the limit, so that the limit refuses requests first.
        let config = ZoneConfig {
            capacity: FrameCount(limit.0 * 2),
            limit: Some(limit),
            ..ZoneConfig::default()
        };
        let zone =
            Arc::new(Zone::new(config).expect("the address space suffices for a small zone"));
        let slots = (0..POOLS).map(|_| PoolSlot::new(&zone)).collect();
        Self {
            zone,
            slots,
            counters: Counters::default(),
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
    let soak = Soak::new(&args);
    let end = Instant::now() + Duration::from_secs_f64(args.minutes * 60.0);
    println!("soak: {} minutes, seed {}, limit {} MiB", args.minutes, args.seed, args.limit);
    // Run until the time is over or a thread panics.
    let panicked = thread::scope(|scope| {
        let mut threads = Vec::new();
        for number in 0..WORKERS {
            let soak = &soak;
            threads.push(scope.spawn(move || worker::run(soak, number)));
        }
        for task in maintenance::THREADS {
            let soak = &soak;
            threads.push(scope.spawn(move || task(soak)));
        }
        while Instant::now() < end && threads.iter().all(|thread| !thread.is_finished()) {
            thread::sleep(
                Duration::from_secs(30).min(end.saturating_duration_since(Instant::now())),
            );
            println!("{}", soak.counters.line(&soak.zone));
        }
        soak.stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(thread::ScopedJoinHandle::join).filter(Result::is_err).count()
    });
    if panicked > 0 {
        eprintln!("soak: FAILED: {panicked} threads panicked");
        return ExitCode::FAILURE;
    }
    finish(soak)
}

/// Verifies and frees all objects, and checks that no frame was lost.
fn finish(soak: Soak) -> ExitCode {
    let left: u64 = soak.slots.iter().map(|slot| slot.verify_all()).sum();
    soak.slots.iter().for_each(PoolSlot::free_all);
    let in_use = soak.zone.stats().in_use;
    soak.zone.check().expect("the zone is consistent");
    println!("{}", soak.counters.line(&soak.zone));
    if in_use.0 != 0 || soak.zone.isolated() != 0 {
        eprintln!(
            "soak: FAILED: {in_use} are in use and {} isolated after everything was freed",
            soak.zone.isolated()
        );
        return ExitCode::FAILURE;
    }
    println!("soak: ok, {left} objects verified at the end, no frame lost");
    ExitCode::SUCCESS
}
