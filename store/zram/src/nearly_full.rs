//! Tells that the memory limit is near, before a write fails.

use frames::MemoryUsage;
use sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// A device is nearly full when it needs so much of its memory limit. Units: percent.
pub const NEARLY_FULL_PERCENT: u64 = 95;

/// It is so no longer when it needs less than this. The gap keeps a device that breathes from saying so again and again. Units: percent.
pub const NEARLY_FULL_CLEAR_PERCENT: u64 = 90;

/// Pages written between two looks.
pub(crate) const LIMIT_CHECK_INTERVAL: u64 = 32;

/// How near the limit was when [`crate::Zram::on_nearly_full`] was told.
///
/// Units: bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NearlyFull {
    /// Memory the device needs.
    pub needed: u64,
    /// Its memory limit.
    pub limit: u64,
}

/// Whether the limit is near, and how often it came near. Relaxed throughout: it orders nothing.
#[derive(Debug, Default)]
pub(crate) struct NearlyFullAlarm {
    is_raised: AtomicBool,
    raised_total: AtomicU64,
}

impl NearlyFullAlarm {
    /// Looks again. Returns what to tell when the limit came near just now; of several threads one is told.
    pub(crate) fn update(&self, memory: MemoryUsage) -> Option<NearlyFull> {
        let (needed, limit) = (memory.needed, memory.limit.unwrap_or(u64::MAX));
        // No device has 2^57 bytes, so this does not overflow but for "no limit", which is never near.
        let percent = |percent: u64| limit / 100 * percent;
        if memory.limit.is_none() || needed < percent(NEARLY_FULL_CLEAR_PERCENT) {
            // A store only when it changes: the line is shared.
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

    /// How often the limit came near.
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
    fn the_limit_is_near_once_until_it_was_far_again() {
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
    fn without_a_limit_nothing_is_near() {
        let alarm = NearlyFullAlarm::default();
        assert_eq!(alarm.update(memory(u64::MAX, None)), None);
        assert_eq!((alarm.raised_total(), alarm.is_raised()), (0, false));
    }
}
