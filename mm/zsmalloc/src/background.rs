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

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use frames::{Budget, ProactiveCompactor, ProactiveOutcome, Proactiveness};
use sync::atomic::{AtomicBool, Ordering};
use thiserror::Error;

use crate::class::SizeClass;
use crate::compact::{compact_classes, gains_largest_first};
use crate::pool::Pool;
use crate::stats::{BackgroundState, CompactionOutcome};

/// Maximum time that the background thread sleeps between two polls.
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Time budget of a slice: short, so that other threads wait only briefly.
const SLICE_BUDGET: Duration = Duration::from_micros(500);
/// Time between two polls while the pool is in use.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Divisor of the start threshold that gives the stop threshold.
const STOP_DIVISOR: u64 = 4;
/// Turns of object compaction per turn of frame compaction.
const TURNS_PER_FRAME_COMPACTION: u32 = 4;

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

/// Computes the sleep that keeps a thread within a share of a CPU. Unused quota is not saved.
#[derive(Debug)]
struct CpuQuota {
    percent: u32,
    /// The thread's CPU time at the start and at the last call.
    first: Duration,
    last: Duration,
}

impl CpuQuota {
    /// Builds a quota of `percent`. `now` is the thread's CPU time.
    fn new(percent: u8, now: Duration) -> Self {
        Self { percent: u32::from(percent).clamp(1, 100), first: now, last: now }
    }

    /// Returns how long to sleep after a turn that took `elapsed` wall-clock time. `now` is the
    /// thread's CPU time. It includes all of the turn, also waking up.
    fn rest(&mut self, now: Duration, elapsed: Duration) -> Duration {
        let used = now.saturating_sub(self.last);
        self.last = now;
        (used * 100 / self.percent).saturating_sub(elapsed)
    }

    /// Returns the CPU time used so far.
    fn spent(&self) -> Duration {
        self.last.saturating_sub(self.first)
    }
}

/// State of the thread between two turns.
#[derive(Debug)]
struct Worker {
    start_permille: u64,
    state: BackgroundState,
    wait: Duration,
    /// Result of the last poll: frames, and frames that could be freed.
    last_poll: (u64, u64),
    gains: Vec<(u64, SizeClass)>,
    proactive: ProactiveCompactor,
    /// Slices of object compaction since the last frame compaction.
    object_turns: u32,
}

impl Worker {
    /// Builds a worker in the state [`BackgroundState::Watching`].
    fn new(start_permille: u16, proactiveness: Proactiveness) -> Self {
        Self {
            start_permille: u64::from(start_permille),
            state: BackgroundState::Watching,
            wait: MIN_POLL_INTERVAL,
            last_poll: (0, 0),
            gains: Vec::new(),
            proactive: ProactiveCompactor::new(proactiveness),
            object_turns: 0,
        }
    }

    /// Runs one turn: polls, and works if enough can be gained. Returns how long to sleep at least.
    fn run_once(&mut self, pool: &Pool) -> Duration {
        // Poll, and compare with the threshold of the current state.
        let before = self.last_poll;
        gains_largest_first(pool, &mut self.gains);
        self.last_poll = (pool.frames(), self.gains.iter().map(|gain| gain.0).sum());
        let (frames, freeable) = self.last_poll;
        let start = (frames * self.start_permille).div_ceil(1000).max(1);
        let stop = (start / STOP_DIVISOR).max(1);
        let least = if self.state == BackgroundState::Working { stop } else { start };
        let unchanged = before == self.last_poll;
        // Compact objects if enough frames can be freed.
        let wait = if freeable >= least {
            self.compact_slice(pool)
        } else {
            self.state = BackgroundState::Watching;
            if unchanged {
                self.back_off()
            } else {
                self.wait = MIN_POLL_INTERVAL;
                self.wait
            }
        };
        // Compact frames and return whole pageblocks to the OS.
        let (more_to_move, frames_moved) = self.move_frames(pool);
        let (more_to_release, frames_released) = self.release(pool, unchanged);
        let mut stats = pool.background.lock();
        stats.polls += 1;
        stats.frames_moved += frames_moved;
        stats.frames_released += frames_released;
        stats.state = self.state;
        stats.frames_freeable = freeable;
        if more_to_move || more_to_release { Duration::ZERO } else { wait }
    }

    /// Compacts objects for one slice, the largest gain first. Returns how long to sleep.
    fn compact_slice(&mut self, pool: &Pool) -> Duration {
        let classes = self.gains.iter().map(|gain| gain.1);
        let report = compact_classes(pool, classes, &Budget::within(SLICE_BUDGET));
        let mut stats = pool.background.lock();
        stats.slices += 1;
        stats.objects_moved += report.objects_moved;
        stats.frames_freed += report.frames_freed;
        stats.last = report;
        drop(stats);
        if report.objects_moved > 0 || report.outcome == CompactionOutcome::OutOfTime {
            self.state = BackgroundState::Working;
            self.wait = MIN_POLL_INTERVAL;
            return Duration::ZERO;
        }
        // All zspages with a gain are busy, or another thread is compacting them.
        self.state = BackgroundState::BackingOff;
        self.back_off()
    }

    /// Doubles the sleep up to [`MAX_POLL_INTERVAL`]. Returns it before doubling.
    fn back_off(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(MAX_POLL_INTERVAL);
        wait
    }

    /// Compacts frames. Returns whether more can be done, and how many frames were moved.
    ///
    /// Object compaction gets more turns, since the frames it frees need not be moved.
    fn move_frames(&mut self, pool: &Pool) -> (bool, u64) {
        if self.state == BackgroundState::Working {
            self.object_turns += 1;
            if self.object_turns < TURNS_PER_FRAME_COMPACTION {
                return (false, 0);
            }
        }
        self.object_turns = 0;
        let step = self.proactive.step(pool.zone(), Budget::within(SLICE_BUDGET));
        let moved =
            if let ProactiveOutcome::Compacted(report) = step { report.frames_moved } else { 0 };
        (step.has_more_work(), moved)
    }

    /// Returns free pageblocks to the OS, except those that the zone keeps. Returns whether there
    /// are more, and how many frames went.
    ///
    /// Frames on per-CPU lists keep their pageblocks from being free. A pool in use needs these
    /// frames again at once; in an unchanged pool the lists are drained first.
    fn release(&self, pool: &Pool, unchanged: bool) -> (bool, u64) {
        let zone = pool.zone();
        if unchanged {
            zone.drain();
        }
        let budget = Budget::within(SLICE_BUDGET).start();
        let released = zone.release_excess(budget.remaining());
        (released.0 > 0 && budget.has_passed(), released.0)
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
