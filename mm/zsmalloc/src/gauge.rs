//! A counter of attached frames with its maximum.

use sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter and its high-water mark. Relaxed throughout: it orders nothing.
///
/// All threads share it, since counters per CPU have no common high-water mark. It changes once
/// per frame, not once per object.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Gauge {
    level: AtomicU64,
    peak: AtomicU64,
}

impl Gauge {
    /// Builds a gauge at zero.
    pub(crate) fn new() -> Self {
        Self { level: AtomicU64::new(0), peak: AtomicU64::new(0) }
    }

    /// Increments the counter and raises the high-water mark.
    pub(crate) fn inc(&self) {
        let level = self.level.fetch_add(1, Relaxed) + 1;
        if level > self.peak.load(Relaxed) {
            self.peak.fetch_max(level, Relaxed);
        }
    }

    /// Decrements the counter.
    pub(crate) fn dec(&self) {
        self.level.fetch_sub(1, Relaxed);
    }

    /// Returns the counter.
    pub(crate) fn get(&self) -> u64 {
        self.level.load(Relaxed)
    }

    /// Returns the high-water mark.
    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Relaxed)
    }

    /// Resets the high-water mark to the counter.
    pub(crate) fn reset(&self) {
        self.peak.store(self.get(), Relaxed);
    }
}
