//! Background compaction: a thread that polls the pool, moves objects in short slices when enough
//! frames can be freed, and keeps a CPU quota.
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
//! A poll takes each class lock once, for a short time. The thread polls an unchanged pool less
//! and less often, at least every [`MAX_POLL_INTERVAL`]. It backs off the same way after
//! compactions without gain.

mod config;
mod cpu_quota;
mod worker;

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use sync::atomic::{AtomicBool, Ordering};

use crate::pool::Pool;
use crate::stats::BackgroundState;
use cpu_quota::CpuQuota;
use worker::Worker;

pub use config::{BackgroundConfig, BackgroundError, DEFAULT_PROACTIVENESS};
pub use worker::MAX_POLL_INTERVAL;

/// Owner of a pool's background thread. Dropping it stops the thread, which takes at most one
/// slice.
#[derive(Debug)]
pub struct Background {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts the background thread of `pool`. The thread does not keep the pool alive: it ends
    /// when the pool is dropped.
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
        let guard = SingletonGuard::try_acquire(pool).ok_or(BackgroundError::AlreadyRunning)?;
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

/// Allows one background thread per pool, until it is dropped.
struct SingletonGuard(Weak<Pool>);

impl SingletonGuard {
    fn try_acquire(pool: &Arc<Pool>) -> Option<Self> {
        let mut stats = pool.background.lock();
        if stats.state != BackgroundState::Off {
            return None;
        }
        stats.state = BackgroundState::Watching;
        Some(Self(Arc::downgrade(pool)))
    }
}

impl Drop for SingletonGuard {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.background.lock().state = BackgroundState::Off;
        }
    }
}

/// Runs the background thread: polls, works one slice, and sleeps as the quota requires.
fn run(guard: &SingletonGuard, stop: &AtomicBool, config: BackgroundConfig) {
    let mut worker = Worker::new(config);
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
