//! What the background thread decides: whether to work, on what, and how long to wait.

use std::time::Duration;

use frames::{ProactiveCompactor, ProactiveOutcome};

use super::{BackgroundConfig, BackgroundState, MAX_POLL_INTERVAL};
use crate::class::SizeClass;
use crate::{Budget, CompactionOutcome, Pool};

/// How long a slice may take: short, so that what others notice of it is short, too.
const SLICE_BUDGET: Duration = Duration::from_micros(500);
/// The time between two looks while the pool is in use.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// What a stopped work leaves, as a part of what starts it.
const STOP_DIVISOR: u64 = 4;
/// While objects are being moved, each so many-th turn moves frames, too.
const TURNS_PER_FRAME_COMPACTION: u32 = 4;

/// The thread's memory between two turns.
#[derive(Debug)]
pub(super) struct Worker {
    start_permille: u64,
    state: BackgroundState,
    wait: Duration,
    /// What the last look found: frames, and frames that could be freed.
    last_poll: (u64, u64),
    gains: Vec<(u64, SizeClass)>,
    proactive: ProactiveCompactor,
    /// Slices of object compaction since frames were looked at.
    object_turns: u32,
}

impl Worker {
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

    /// Looks, and works for a slice if it is worth it; how long to wait at least.
    pub(super) fn run_once(&mut self, pool: &Pool) -> Duration {
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
        let wait = if freeable >= least {
            self.compact_slice(pool)
        } else {
            self.state = BackgroundState::Watching;
            self.idle(unchanged)
        };
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

    /// Frames there are, and frames that could be freed; the classes are noted with what is to be gained in each.
    fn poll(&mut self, pool: &Pool) -> (u64, u64) {
        let gain = |class| (pool.lock(class).freeable(class), class);
        self.gains.clear();
        self.gains.extend(pool.compactable_classes().map(gain).filter(|gain| gain.0 > 0));
        (pool.frames(), self.gains.iter().map(|gain| gain.0).sum())
    }

    /// Works where most is to be gained first.
    fn compact_slice(&mut self, pool: &Pool) -> Duration {
        self.gains.sort_unstable_by_key(|gain| std::cmp::Reverse(gain.0));
        let mut classes = self.gains.iter().map(|gain| gain.1);
        let report = pool.compact_classes(|| classes.next(), &Budget::within(SLICE_BUDGET));
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
        // All that is to be gained is in use, or somebody else is at it.
        self.state = BackgroundState::BackingOff;
        self.back_off()
    }

    fn idle(&mut self, unchanged: bool) -> Duration {
        if unchanged {
            return self.back_off();
        }
        self.wait = MIN_POLL_INTERVAL;
        self.wait
    }

    fn back_off(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(MAX_POLL_INTERVAL);
        wait
    }

    /// Moves frames together: whether there is more to do, and how many were moved.
    ///
    /// Object compaction has the larger share, since the frames that it frees need not be moved.
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

    /// Gives pageblocks that are wholly free to the OS, all but those the zone keeps: whether there are more, and how many frames went.
    ///
    /// Frames on per-CPU lists pin theirs. In a pool that is in use they are needed again at once; in one that stands still they go back first.
    fn release(&self, pool: &Pool, unchanged: bool) -> (bool, u64) {
        let zone = pool.zone();
        if unchanged {
            zone.drain();
        }
        let budget = Budget::within(SLICE_BUDGET).start();
        let released = zone.release_excess(budget.rest());
        (released.0 > 0 && budget.has_passed(), released.0)
    }
}
