//! Keeping to a share of a CPU.

use std::time::Duration;

/// Turns the CPU time a turn took into the time to rest after it. Rest is never saved up: after a long sleep no burst follows.
#[derive(Debug)]
pub(super) struct CpuQuota {
    percent: u32,
    /// CPU time of the thread before it began, and when it was last asked.
    first: Duration,
    last: Duration,
}

impl CpuQuota {
    /// `now`: the thread's CPU time.
    pub(super) fn new(percent: u8, now: Duration) -> Self {
        Self { percent: u32::from(percent).clamp(1, 100), first: now, last: now }
    }

    /// How long to rest after a turn that took `elapsed` by the clock on the wall; `now` is the thread's CPU time, which has grown since the last
    /// call by all the turn cost, waking up included.
    pub(super) fn rest(&mut self, now: Duration, elapsed: Duration) -> Duration {
        let used = now.saturating_sub(self.last);
        self.last = now;
        (used * 100 / self.percent).saturating_sub(elapsed)
    }

    /// CPU time used so far.
    pub(super) fn spent(&self) -> Duration {
        self.last.saturating_sub(self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn work_and_rest_add_up_to_the_share() {
        let mut quota = CpuQuota::new(10, 7 * MS);
        // One millisecond of CPU time needs ten on the wall; two have passed, since somebody else had the CPU for one.
        assert_eq!(quota.rest(8 * MS, 2 * MS), 8 * MS);
        assert_eq!(quota.rest(8 * MS, MS), Duration::ZERO);
        assert_eq!(quota.spent(), MS);
        assert_eq!(CpuQuota::new(100, MS).rest(3 * MS, 2 * MS), Duration::ZERO);
        assert_eq!(CpuQuota::new(1, MS).rest(2 * MS, MS), 99 * MS);
    }

    #[test]
    fn rest_is_not_saved_up() {
        let mut quota = CpuQuota::new(50, Duration::ZERO);
        assert_eq!(quota.rest(MS, 1000 * MS), Duration::ZERO);
        assert_eq!(quota.rest(5 * MS, 4 * MS), 4 * MS);
    }
}
