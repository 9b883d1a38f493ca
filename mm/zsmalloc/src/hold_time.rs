//! Hold times of class locks: how long another thread may have to wait (L-16).
//!
//! Measured in CPU time of the holder, so that a preemption does not count. Off unless a pool is
//! created with [`HoldTimes::Measured`], because measuring costs two system calls per hold.

use std::time::Duration;

use sync::atomic::{AtomicU64, Ordering};

/// Switch for the measurement of class lock hold times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HoldTimes {
    /// Not measured, without cost.
    #[default]
    Off,
    /// Measured, for experiments.
    Measured,
}

/// The longest hold so far, if holds are measured. Units: nanoseconds.
#[derive(Debug)]
pub(crate) struct HoldTimeStats(Option<AtomicU64>);

/// Measures one hold, from its creation to its drop.
#[derive(Debug)]
pub(crate) struct HoldTimer<'p> {
    start: Duration,
    longest: &'p AtomicU64,
}

impl HoldTimeStats {
    /// Builds the statistics without any hold.
    pub(crate) fn new(times: HoldTimes) -> Self {
        Self((times == HoldTimes::Measured).then(AtomicU64::default))
    }

    /// Starts the timer of a hold if holds are measured.
    pub(crate) fn begin(&self) -> Option<HoldTimer<'_>> {
        let longest = self.0.as_ref()?;
        Some(HoldTimer { start: sys::host::thread_cpu_time(), longest })
    }

    /// Returns the longest hold since the last call, or `None` when holds are not measured.
    pub(crate) fn take_max(&self) -> Option<Duration> {
        // Relaxed: a statistic that orders nothing.
        Some(Duration::from_nanos(self.0.as_ref()?.swap(0, Ordering::Relaxed)))
    }
}

impl Drop for HoldTimer<'_> {
    fn drop(&mut self) {
        let held = sys::host::thread_cpu_time().saturating_sub(self.start);
        // Relaxed: a statistic that orders nothing. A u64 holds 584 years.
        self.longest.fetch_max(held.as_nanos() as u64, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::sync::Arc;

    use sys::Backing;

    use super::*;
    use crate::tests::{pool_in, zone};
    use crate::{Budget, Pool, PoolConfig};

    fn pool(hold_times: HoldTimes) -> Arc<Pool> {
        pool_in(&zone(8192, Backing::Heap), PoolConfig { hold_times, ..PoolConfig::default() })
    }

    /// L-16: compaction releases the class lock every few objects, so the longest hold is a small
    /// part of a compaction.
    #[test]
    fn l16_no_class_lock_is_held_long() {
        let pool = pool(HoldTimes::Measured);
        let handles: Vec<_> = (0..8000).map(|_| pool.store(&[7; 1000]).expect("room")).collect();
        for &handle in handles.iter().step_by(2) {
            pool.free(handle).expect("live");
        }
        assert!(pool.take_max_hold_time().is_some_and(|longest| longest > Duration::ZERO));
        assert_eq!(pool.take_max_hold_time(), Some(Duration::ZERO), "the first call reset it");
        let start = sys::host::thread_cpu_time();
        let report = pool.compact(&Budget::unlimited());
        let whole = sys::host::thread_cpu_time() - start;
        let longest = pool.take_max_hold_time().expect("it is measured");
        assert!(report.objects_moved >= 1500, "{report:?}");
        assert!(longest > Duration::ZERO && longest * 8 < whole, "{longest:?} of {whole:?}");
    }

    #[test]
    fn holds_are_measured_only_when_asked_for() {
        let pool = pool(HoldTimes::Off);
        pool.store(b"x").expect("room");
        assert_eq!(pool.take_max_hold_time(), None);
    }
}
