//! Compaction in the background: a thread that looks now and then, moves objects in short slices when it is worth it, and never takes more than its
//! share of a CPU.
//!
//! # States
//! ```text
//!            enough to gain                    too little left
//!  watching ----------------> working --------------------------> watching
//!     ^                          |
//!     |   time passed            |  nothing could be gained
//!     +------- backing off <-----+
//! ```
//! In between, frames are moved together ([`frames::ProactiveCompactor`]), so that what objects left becomes whole pageblocks, and pageblocks that are free go
//! back to the OS, all but those the zone keeps for the next writes ([`frames::Zone::kept`]).
//!
//! A look costs one short lock a class. A pool that does not change is looked at less and less often, but never less than [`MAX_POLL_INTERVAL`]; the same holds
//! after work in vain.

mod cpu_quota;
mod stats;
mod worker;

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use frames::Proactiveness;
use sync::atomic::{AtomicBool, Ordering};
use thiserror::Error;

use crate::Pool;
use cpu_quota::CpuQuota;
pub use stats::{BackgroundState, BackgroundStats};
use worker::Worker;

/// The longest the background thread sleeps between two looks.
pub const MAX_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// How much the background thread may do, and when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackgroundConfig {
    /// The most of one CPU it uses. Units: percent, 1 to 100.
    pub cpu_percent: u8,
    /// It starts when so much of the pool's frames could be freed, and goes on until it is a fourth of that. Units: thousandths, 1 to 1000.
    pub start_permille: u16,
    /// How eagerly frames are moved together, too: see [`frames::ProactiveCompactor`].
    pub proactiveness: Proactiveness,
}

/// How eagerly frames are moved together unless the caller says otherwise. More than the kernel's 20: there scattered memory serves most requests as well,
/// here it is memory that the OS does not get back.
pub const DEFAULT_PROACTIVENESS: Proactiveness = match Proactiveness::new(90) {
    Some(percent) => percent,
    None => Proactiveness::KERNEL,
};

impl Default for BackgroundConfig {
    fn default() -> Self {
        Self { cpu_percent: 10, start_permille: 4, proactiveness: DEFAULT_PROACTIVENESS }
    }
}

/// Why there is no compaction in the background.
#[derive(Debug, Error)]
pub enum BackgroundError {
    /// The share of a CPU is 1 to 100 percent.
    #[error("{percent} % of a CPU is not possible: 1 to 100 are")]
    Cpu {
        /// Percent asked for.
        percent: u8,
    },
    /// The share of frames is 1 to 1000 thousandths.
    #[error("{permille} thousandths of the frames are not possible: 1 to 1000 are")]
    Start {
        /// Thousandths asked for.
        permille: u16,
    },
    /// The pool has one already.
    #[error("the pool is being compacted in the background already")]
    AlreadyRunning,
    /// The OS gives no thread.
    #[error("no thread for compaction in the background")]
    Thread(#[source] std::io::Error),
}

/// A pool is compacted in the background as long as this lives. Dropping it ends the thread, which takes one slice at most.
#[derive(Debug)]
pub struct Background {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts compacting `pool`. The thread keeps no pool alive: when all others have let go of it, the thread ends.
    ///
    /// # Errors
    /// [`BackgroundError`]; nothing runs then.
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
        // Release pairs with the Acquire in `run`; the unpark alone would do.
        self.stop.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        if thread.thread().id() != thread::current().id() {
            // A panic in there is told by the panic hook; whoever drops us has no use for it.
            let _ = thread.join();
        }
    }
}

/// The one place for a background thread that a pool has; free again when this is dropped.
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

/// The thread: looks, works a slice, and sleeps for as long as the share asks for.
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
