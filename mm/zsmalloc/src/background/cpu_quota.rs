//! CPU quota of the background thread.

use std::time::Duration;

/// Computes the sleep that keeps a thread within a share of a CPU. Unused quota is not saved: no
/// burst follows a long sleep.
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

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn work_and_sleep_add_up_to_the_quota() {
        let mut quota = CpuQuota::new(10, 7 * MS);
        // One millisecond of CPU time needs ten of wall-clock time. Two have passed, as another
        // thread had the CPU for one of them.
        assert_eq!(quota.rest(8 * MS, 2 * MS), 8 * MS);
        assert_eq!(quota.rest(8 * MS, MS), Duration::ZERO);
        assert_eq!(quota.spent(), MS);
        assert_eq!(CpuQuota::new(100, MS).rest(3 * MS, 2 * MS), Duration::ZERO);
        assert_eq!(CpuQuota::new(1, MS).rest(2 * MS, MS), 99 * MS);
    }

    #[test]
    fn unused_quota_is_not_saved() {
        let mut quota = CpuQuota::new(50, Duration::ZERO);
        assert_eq!(quota.rest(MS, 1000 * MS), Duration::ZERO);
        assert_eq!(quota.rest(5 * MS, 4 * MS), 4 * MS);
    }
}
