//! Background compaction: a thread that moves objects in short slices and keeps a CPU quota.
//!
//! # States
//! ```text
//!            enough to gain                    too little left
//!  watching ----------------> working --------------------------> watching
//!     ^                          |
//!     |   time passed            |  nothing could be gained
//!     +------- backing off <-----+
//! ```
//! Between slices the thread compacts frames ([`frames::ProactiveCompactor`]), so that free
//! frames form whole pageblocks. It returns free pageblocks to the OS, except those that the zone
//! keeps for the next writes ([`frames::Zone::kept`]).
//!
//! A poll takes each class lock once, for a short time. The thread polls an unchanged pool less and
//! less often, at least twice a second. So it backs off after compactions without gain.

mod worker;

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use frames::Proactiveness;
use sync::atomic::{AtomicBool, Ordering};
use thiserror::Error;

use crate::pool::Pool;
use crate::stats::BackgroundState;
use worker::{CpuQuota, Worker};

/// CPU quota and thresholds of the background thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackgroundConfig {
    /// CPU quota. Units: percent of one CPU, 1 to 100.
    pub cpu_percent: u8,
    /// Share of the pool's frames that must be freeable to start; the thread stops at a quarter of
    /// it. Units: thousandths, 1 to 1000.
    pub start_permille: u16,
    /// Proactiveness of frame compaction: see [`frames::ProactiveCompactor`].
    pub proactiveness: Proactiveness,
}

impl Default for BackgroundConfig {
    fn default() -> Self {
        // The kernel's default is 20, because scattered free memory still serves most of its
        // requests; here only whole pageblocks return to the OS.
        let proactiveness = Proactiveness::new(90).unwrap_or(Proactiveness::KERNEL);
        Self { cpu_percent: 10, start_permille: 4, proactiveness }
    }
}

/// Error of starting the background thread.
#[derive(Debug, Error)]
pub enum BackgroundError {
    /// The CPU quota is not 1 to 100 percent.
    #[error("invalid CPU quota of {percent} %: allowed are 1 to 100")]
    Cpu {
        /// Requested quota. Units: percent.
        percent: u8,
    },
    /// The start threshold is not 1 to 1000 thousandths.
    #[error("invalid start threshold of {permille} thousandths: allowed are 1 to 1000")]
    Start {
        /// Requested threshold. Units: thousandths.
        permille: u16,
    },
    /// The pool has a background thread already.
    #[error("the pool already has a background thread")]
    AlreadyRunning,
    /// The OS could not start the thread.
    #[error("the background thread could not be started")]
    Thread(#[source] std::io::Error),
}

/// A pool's background thread. Dropping it stops the thread, within one slice.
#[derive(Debug)]
pub struct Background {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts the background thread of `pool`, which ends when the pool is dropped.
    ///
    /// # Errors
    /// Returns [`BackgroundError`]; no thread is running then.
    pub fn start(pool: &Arc<Pool>, config: BackgroundConfig) -> Result<Self, BackgroundError> {
        if !(1..=100).contains(&config.cpu_percent) {
            return Err(BackgroundError::Cpu { percent: config.cpu_percent });
        }
        if !(1..=1000).contains(&config.start_permille) {
            return Err(BackgroundError::Start { permille: config.start_permille });
        }
        let mut stats = pool.background.lock();
        if stats.state != BackgroundState::Off {
            return Err(BackgroundError::AlreadyRunning);
        }
        stats.state = BackgroundState::Watching;
        drop(stats);
        let guard = SingletonGuard(Arc::downgrade(pool));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || run(&guard, &stopped, config);
        let thread = thread::Builder::new().name("memzip-compact".into()).spawn(work);
        Ok(Self { stop, thread: Some(thread.map_err(BackgroundError::Thread)?) })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Release pairs with the Acquire in `run`. The unpark alone would suffice.
        self.stop.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        if thread.thread().id() != thread::current().id() {
            // The panic hook has already reported a panic in the thread.
            let _ = thread.join();
        }
    }
}

/// Allows one background thread per pool, until it is dropped: by its state, which is not `Off`.
struct SingletonGuard(Weak<Pool>);

impl Drop for SingletonGuard {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.background.lock().state = BackgroundState::Off;
        }
    }
}

/// Runs the background thread: polls, works one slice, and sleeps as the quota requires.
fn run(guard: &SingletonGuard, stop: &AtomicBool, config: BackgroundConfig) {
    let mut worker = Worker::new(config.start_permille, config.proactiveness);
    let mut quota = CpuQuota::new(config.cpu_percent, sys::host::thread_cpu_time());
    while !stop.load(Ordering::Acquire) {
        let start = Instant::now();
        let Some(pool) = guard.0.upgrade() else { return };
        let wait = worker.run_once(&pool);
        let rest = quota.rest(sys::host::thread_cpu_time(), start.elapsed());
        pool.background.lock().cpu = quota.spent();
        drop(pool);
        thread::park_timeout(wait.max(rest));
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
