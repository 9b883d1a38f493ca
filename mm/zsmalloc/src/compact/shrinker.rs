//! The pool's shrinker: a compaction that ends when enough frames are free.

use std::time::{Duration, Instant};

use frames::{Budget, FrameCount, NoLocksHeld, Shrinker};

use super::gain::{frames_freeable, gains_largest_first};
use super::run::compact_class;
use crate::pool::Pool;
use crate::stats::{Compaction, CompactionOutcome};

/// Maximum time of a scan: an allocating thread may wait for it.
const SCAN_TIMEOUT: Duration = Duration::from_millis(20);

impl Shrinker for Pool {
    /// Returns the frames that a compaction could free.
    fn count(&self) -> FrameCount {
        FrameCount(frames_freeable(self))
    }

    /// Compacts the class with the largest gain first. Returns the frames that this call freed
    /// itself, so concurrent compactions do not reduce it.
    fn scan(&self, target: FrameCount, _: &NoLocksHeld) -> FrameCount {
        let (start, deadline) = (Instant::now(), Budget::within(SCAN_TIMEOUT).start());
        let (mut gains, mut report) = (Vec::new(), Compaction::default());
        gains_largest_first(self, &mut gains);
        for (_, class) in gains {
            if report.frames_freed >= target.0
                || compact_class(self, class, deadline, &mut report) == CompactionOutcome::OutOfTime
            {
                break;
            }
        }
        self.totals.record(&report, start.elapsed());
        FrameCount(report.frames_freed)
    }
}
