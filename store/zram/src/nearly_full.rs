//! The alarm that the memory limit is near, before a write fails.

use std::sync::OnceLock;

use frames::MemoryUsage;
use sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The share of its memory limit from which a device is nearly full. Units: percent.
pub const NEARLY_FULL_PERCENT: u64 = 95;
/// The share of its memory limit below which a device is no longer nearly full. The gap keeps a
/// device that fluctuates near the limit from raising the alarm again and again. Units: percent.
pub const NEARLY_FULL_CLEAR_PERCENT: u64 = 90;
/// The pages written between two checks.
pub(crate) const LIMIT_CHECK_INTERVAL: u64 = 32;

/// The memory use when [`crate::Zram::on_nearly_full`]'s callback was called. Units: bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NearlyFull {
    /// The memory the device needs.
    pub needed: u64,
    /// The memory limit of the device.
    pub limit: u64,
}

/// The alarm, how often it was raised, and the callback. Relaxed throughout: it orders no data.
#[derive(Debug, Default)]
pub(crate) struct NearlyFullAlarm {
    is_raised: AtomicBool,
    raised_total: AtomicU64,
    notify: OnceLock<fn(NearlyFull)>,
}

impl NearlyFullAlarm {
    /// Makes each raise of the alarm call `notify`. A later call has no effect.
    pub(crate) fn on_raise(&self, notify: fn(NearlyFull)) {
        let _first = self.notify.set(notify);
    }

    /// Updates the alarm, and calls the callback if this call raised it.
    pub(crate) fn check(&self, memory: MemoryUsage) {
        if let (Some(near), Some(notify)) = (self.update(memory), self.notify.get()) {
            notify(near);
        }
    }

    /// Updates the alarm. Returns the memory use if this call, of concurrent ones, raised it.
    fn update(&self, memory: MemoryUsage) -> Option<NearlyFull> {
        let (needed, limit) = (memory.needed, memory.limit.unwrap_or(u64::MAX));
        let percent = |percent: u64| limit / 100 * percent;
        if memory.limit.is_none() || needed < percent(NEARLY_FULL_CLEAR_PERCENT) {
            // Stored only on a change: the cache line is shared.
            if self.is_raised() {
                self.is_raised.store(false, Relaxed);
            }
            return None;
        }
        if needed < percent(NEARLY_FULL_PERCENT) || self.is_raised.swap(true, Relaxed) {
            return None;
        }
        self.raised_total.fetch_add(1, Relaxed);
        Some(NearlyFull { needed, limit })
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.is_raised.load(Relaxed)
    }

    pub(crate) fn raised_total(&self) -> u64 {
        self.raised_total.load(Relaxed)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use frames::FrameCount;

    use super::*;

    fn memory(needed: u64, limit: Option<u64>) -> MemoryUsage {
        MemoryUsage { limit, held: needed, available: 0, needed, unused: FrameCount(0) }
    }

    #[test]
    fn the_alarm_is_raised_once_until_it_was_cleared() {
        let alarm = NearlyFullAlarm::default();
        let mut look = |needed| alarm.update(memory(needed, Some(1000))).is_some();
        assert_eq!(
            [940, 949, 950, 999, 940, 951, 901, 960].map(&mut look),
            [false, false, true, false, false, false, false, false]
        );
        assert_eq!([899, 949, 950, 10, 1000].map(&mut look), [false, false, true, false, true]);
        assert_eq!((alarm.raised_total(), alarm.is_raised()), (3, true));
    }

    #[test]
    fn without_a_limit_the_alarm_is_never_raised() {
        let alarm = NearlyFullAlarm::default();
        assert_eq!(alarm.update(memory(u64::MAX, None)), None);
        assert_eq!((alarm.raised_total(), alarm.is_raised()), (0, false));
    }
}
