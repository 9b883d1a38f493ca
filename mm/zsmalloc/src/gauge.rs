//! How many frames zspages have, and the most they ever had.

use sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A level and its high-water mark. Relaxed throughout: it orders nothing.
///
/// One line for all threads, since a high-water mark cannot be had from counters that are apart; it is written once a frame, not once an object.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Gauge {
    level: AtomicU64,
    peak: AtomicU64,
}

impl Gauge {
    pub(crate) fn new() -> Self {
        Self { level: AtomicU64::new(0), peak: AtomicU64::new(0) }
    }

    pub(crate) fn inc(&self) {
        let level = self.level.fetch_add(1, Relaxed) + 1;
        if level > self.peak.load(Relaxed) {
            self.peak.fetch_max(level, Relaxed);
        }
    }

    pub(crate) fn dec(&self) {
        self.level.fetch_sub(1, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.level.load(Relaxed)
    }

    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Relaxed)
    }

    /// Starts the high-water mark again from the present level.
    pub(crate) fn reset(&self) {
        self.peak.store(self.get(), Relaxed);
    }
}
