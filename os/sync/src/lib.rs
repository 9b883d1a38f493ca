//! Atomics, locks and threads of the workspace: std in a normal build, loom under `cfg(loom)`,
//! shuttle under `cfg(shuttle)`.
//!
//! Crates above import these types from here only, so that a model checker runs the real code. The
//! mutex does not poison: `check()` finds what a panic inside a critical section left inconsistent,
//! and the other threads do not panic as well.

#![forbid(unsafe_code)]

pub mod order;
mod mutex;
mod parking;
mod shard;
#[cfg(loom)]
mod explore;

pub use mutex::{Mutex, MutexGuard};
pub use order::Rank;
pub use parking::ParkingLot;
#[cfg(any(loom, shuttle))]
pub use shard::set_shards;
pub use shard::{default_shards, this_shard};

/// Atomic integers and orderings.
pub mod atomic {
    #[cfg(loom)]
    pub use loom::sync::atomic::*;
    #[cfg(shuttle)]
    pub use shuttle::sync::atomic::*;
    #[cfg(not(any(loom, shuttle)))]
    pub use std::sync::atomic::*;
}

#[cfg(loom)]
pub use explore::model;
#[cfg(loom)]
pub use loom::{sync::Arc, thread};
#[cfg(shuttle)]
pub use shuttle::{sync::Arc, thread};
#[cfg(not(any(loom, shuttle)))]
pub use std::{sync::Arc, thread};

/// Runs a model under `schedules` random schedules of its threads.
#[cfg(shuttle)]
pub fn check_random(model: impl Fn() + Send + Sync + 'static, schedules: usize) {
    let mut config = shuttle::Config::new();
    // Page buffers lie on the stack, several calls deep, and codecs use some stack, too.
    config.stack_size = 256 << 10;
    let scheduler = shuttle::scheduler::RandomScheduler::new(schedules);
    shuttle::Runner::new(scheduler, config).run(move || {
        shard::begin_schedule();
        model();
    });
}

/// Waits a moment inside a short spin loop; model checkers schedule another thread instead.
///
/// `spins` counts the calls of this loop so far: from 64 on, the thread yields its CPU.
pub fn relax(spins: u32) {
    #[cfg(any(loom, shuttle))]
    {
        let _ = spins;
        thread::yield_now();
    }
    #[cfg(not(any(loom, shuttle)))]
    if spins < 64 {
        std::hint::spin_loop();
    } else {
        // The holder was probably preempted, and spinning on its CPU only delays it.
        thread::yield_now();
    }
}

/// Sleeps for about `time`; model checkers schedule another thread instead.
pub fn pause(time: std::time::Duration) {
    #[cfg(any(loom, shuttle))]
    {
        let _ = time;
        thread::yield_now();
    }
    #[cfg(not(any(loom, shuttle)))]
    thread::sleep(time);
}
