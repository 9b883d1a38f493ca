//! How many frames zspages have, and the most they ever had.

use sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A level and its high-water mark. Relaxed throughout: it orders nothing.
///
/// One line for all threads, since a high-water mark cannot be had from counters that are apart; it is written once a frame, not once an object.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Gauge {
    level: AtomicU64,
    most: AtomicU64,
}

impl Gauge {
    pub(crate) fn new() -> Self {
        Self { level: AtomicU64::new(0), most: AtomicU64::new(0) }
    }

    pub(crate) fn rise(&self) {
        let level = self.level.fetch_add(1, Relaxed) + 1;
        if level > self.most.load(Relaxed) {
            self.most.fetch_max(level, Relaxed);
        }
    }

    pub(crate) fn fall(&self) {
        self.level.fetch_sub(1, Relaxed);
    }

    pub(crate) fn level(&self) -> u64 {
        self.level.load(Relaxed)
    }

    pub(crate) fn most(&self) -> u64 {
        self.most.load(Relaxed)
    }

    /// Starts the high-water mark again from the present level.
    pub(crate) fn reset(&self) {
        self.most.store(self.level(), Relaxed);
    }
}
