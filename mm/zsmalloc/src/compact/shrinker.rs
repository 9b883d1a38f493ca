//! The pool's shrinker: a compaction that ends when enough frames are free.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use frames::{Budget, FrameCount, NoLocksHeld, Shrinker};

use super::Compaction;
use crate::CompactionOutcome;
use crate::pool::Pool;

/// Maximum time of a scan: an allocating thread may wait for it.
const SCAN_TIMEOUT: Duration = Duration::from_millis(20);

impl Shrinker for Pool {
    /// Returns the frames that a compaction could free.
    fn count(&self) -> FrameCount {
        FrameCount(self.frames_freeable())
    }

    /// Compacts the class with the largest gain first. Returns the frames that this call freed
    /// itself, so concurrent compactions do not reduce it.
    fn scan(&self, target: FrameCount, _: &NoLocksHeld) -> FrameCount {
        let (start, deadline) = (Instant::now(), Budget::within(SCAN_TIMEOUT).start());
        let mut gains: Vec<_> = self
            .compactable_classes()
            .map(|class| (self.lock(class).freeable(class), class))
            .collect();
        gains.sort_unstable_by_key(|gain| Reverse(gain.0));
        let mut report = Compaction::default();
        for (_, class) in gains.into_iter().filter(|gain| gain.0 > 0) {
            if report.frames_freed >= target.0
                || self.compact_class(class, deadline, &mut report) == CompactionOutcome::OutOfTime
            {
                break;
            }
        }
        self.totals.record(&report, start.elapsed());
        FrameCount(report.frames_freed)
    }
}
