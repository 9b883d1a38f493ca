//! Atomics, locks and threads of the workspace: std, or loom or shuttle under their `cfg`.
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

#[cfg(loom)]
pub(crate) use loom as base;
#[cfg(shuttle)]
pub(crate) use shuttle as base;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std as base;

pub use base::sync::{Arc, atomic};
pub use base::thread;
#[cfg(loom)]
pub use explore::model;

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
    if cfg!(any(loom, shuttle)) || spins >= 64 {
        // The holder was probably preempted, and spinning on its CPU only delays it.
        thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

/// Sleeps for about `time`; model checkers schedule another thread instead.
pub fn pause(time: std::time::Duration) {
    if cfg!(any(loom, shuttle)) { thread::yield_now() } else { std::thread::sleep(time) }
}
