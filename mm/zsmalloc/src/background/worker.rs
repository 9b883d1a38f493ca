//! The work of the background thread: one turn, and the sleep after it.

use std::time::Duration;

use frames::{Budget, ProactiveCompactor, ProactiveOutcome, Proactiveness};

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

/// Computes the sleep that keeps a thread within a share of a CPU. Unused quota is not saved.
#[derive(Debug)]
pub(super) struct CpuQuota {
    percent: u32,
    /// The thread's CPU time at the start and at the last call.
    first: Duration,
    last: Duration,
}

impl CpuQuota {
    /// Builds a quota of `percent`. `now` is the thread's CPU time.
    pub(super) fn new(percent: u8, now: Duration) -> Self {
        Self { percent: u32::from(percent).clamp(1, 100), first: now, last: now }
    }

    /// Returns how long to sleep after a turn that took `elapsed` wall-clock time. `now` is the
    /// thread's CPU time. It includes all of the turn, also waking up.
    pub(super) fn rest(&mut self, now: Duration, elapsed: Duration) -> Duration {
        let used = now.saturating_sub(self.last);
        self.last = now;
        (used * 100 / self.percent).saturating_sub(elapsed)
    }

    /// Returns the CPU time used so far.
    pub(super) fn spent(&self) -> Duration {
        self.last.saturating_sub(self.first)
    }
}

/// State of the thread between two turns.
#[derive(Debug)]
pub(super) struct Worker {
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
    pub(super) fn new(start_permille: u16, proactiveness: Proactiveness) -> Self {
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
    pub(super) fn run_once(&mut self, pool: &Pool) -> Duration {
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
