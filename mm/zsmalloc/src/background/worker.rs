//! Decisions of the background thread: whether to work, on which class, and how long to sleep.

use std::time::Duration;

use frames::{Budget, ProactiveCompactor, ProactiveOutcome};

use super::config::BackgroundConfig;
use crate::class::SizeClass;
use crate::compact::{compact_classes, gains_largest_first};
use crate::pool::Pool;
use crate::stats::{BackgroundState, CompactionOutcome};

/// Maximum time that the background thread sleeps between two polls.
pub const MAX_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Time budget of a slice: short, so that other threads wait only briefly.
const SLICE_BUDGET: Duration = Duration::from_micros(500);
/// Time between two polls while the pool is in use.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Divisor of the start threshold that gives the stop threshold.
const STOP_DIVISOR: u64 = 4;
/// Turns of object compaction per turn of frame compaction.
const TURNS_PER_FRAME_COMPACTION: u32 = 4;

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
    pub(super) fn new(config: BackgroundConfig) -> Self {
        Self {
            start_permille: u64::from(config.start_permille),
            state: BackgroundState::Watching,
            wait: MIN_POLL_INTERVAL,
            last_poll: (0, 0),
            gains: Vec::new(),
            proactive: ProactiveCompactor::new(config.proactiveness),
            object_turns: 0,
        }
    }

    /// Runs one turn: polls, and works for a slice if enough can be gained. Returns how long to
    /// sleep at least.
    pub(super) fn run_once(&mut self, pool: &Pool) -> Duration {
        // Poll, and compare with the threshold of the current state.
        let before = self.last_poll;
        self.last_poll = self.poll(pool);
        let (frames, freeable) = self.last_poll;
        let start = (frames * self.start_permille).div_ceil(1000).max(1);
        let least = if self.state == BackgroundState::Working {
            (start / STOP_DIVISOR).max(1)
        } else {
            start
        };
        let unchanged = before == self.last_poll;
        // Compact objects if enough frames can be freed.
        let wait = if freeable >= least {
            self.compact_slice(pool)
        } else {
            self.state = BackgroundState::Watching;
            self.idle(unchanged)
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

    /// Returns the pool's frames and those that could be freed. Stores the gain of each class in
    /// `gains`.
    fn poll(&mut self, pool: &Pool) -> (u64, u64) {
        gains_largest_first(pool, &mut self.gains);
        (pool.frames(), self.gains.iter().map(|gain| gain.0).sum())
    }

    /// Runs one slice of object compaction, the class with the largest gain first. Returns how
    /// long to sleep.
    fn compact_slice(&mut self, pool: &Pool) -> Duration {
        let classes = self.gains.iter().map(|gain| gain.1);
        let report = compact_classes(pool, classes, &Budget::within(SLICE_BUDGET));
        {
            let mut stats = pool.background.lock();
            stats.slices += 1;
            stats.objects_moved += report.objects_moved;
            stats.frames_freed += report.frames_freed;
            stats.last = report;
        }
        if report.objects_moved > 0 || report.outcome == CompactionOutcome::OutOfTime {
            self.state = BackgroundState::Working;
            self.wait = MIN_POLL_INTERVAL;
            return Duration::ZERO;
        }
        // All zspages with a gain are busy, or another thread is compacting them.
        self.state = BackgroundState::BackingOff;
        self.back_off()
    }

    /// Returns the sleep after a poll without work: longer and longer in an unchanged pool.
    fn idle(&mut self, unchanged: bool) -> Duration {
        if unchanged {
            return self.back_off();
        }
        self.wait = MIN_POLL_INTERVAL;
        self.wait
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
