//! The soak: threads store, read, overwrite and free objects in one zone at its limit and verify
//! every byte.
//!
//! Meanwhile other threads compact objects and frames, isolate, migrate and put back frames,
//! allocate contiguous ranges, inflate and deflate balloons, and destroy and create pools.
//!
//! `cargo xtask soak` builds and starts it; half an hour is the usual duration. The seed repeats
//! a run as far as thread scheduling allows.

#![forbid(unsafe_code)]

mod content;
mod counters;
mod pool_slot;
mod soak;
mod worker;
mod maintenance;

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use frames::FrameCount;

use pool_slot::{PoolSlot, WORKERS};
use soak::Soak;

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

fn main() -> ExitCode {
    let args = Args::parse();
    let soak = Soak::new(FrameCount::holding(args.limit << 20), args.seed);
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
