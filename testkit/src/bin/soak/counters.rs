//! Counters of the operations so far.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use frames::Zone;

/// Counters of all operations.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) stored: AtomicU64,
    pub(crate) overwritten: AtomicU64,
    pub(crate) read: AtomicU64,
    pub(crate) freed: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) objects_moved: AtomicU64,
    pub(crate) bytes_moved: AtomicU64,
    pub(crate) frames_moved: AtomicU64,
    pub(crate) frames_gone: AtomicU64,
    pub(crate) ranges: AtomicU64,
    pub(crate) blocks: AtomicU64,
    pub(crate) ballooned: AtomicU64,
    pub(crate) recreated: AtomicU64,
    pub(crate) verified_at_the_end_of_pools: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    // Relaxed: statistics.
    counter.fetch_add(count, Relaxed);
}

impl Counters {
    /// Returns all counters on one line.
    pub(crate) fn line(&self, zone: &Zone) -> String {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let stats = zone.stats();
        format!(
            "stored {} overwritten {} read {} ({} MiB) freed {} refused {} | objects moved {} ({} MiB) frames moved {} gone {} | \
             ranges cleared {} blocks {} frames ballooned {} | pools recreated {} ({} objects verified) | in use {} MiB committed {} MiB isolated {}",
            get(&self.stored),
            get(&self.overwritten),
            get(&self.read),
            get(&self.bytes) >> 20,
            get(&self.freed),
            get(&self.refused),
            get(&self.objects_moved),
            get(&self.bytes_moved) >> 20,
            get(&self.frames_moved),
            get(&self.frames_gone),
            get(&self.ranges),
            get(&self.blocks),
            get(&self.ballooned),
            get(&self.recreated),
            get(&self.verified_at_the_end_of_pools),
            stats.in_use.bytes() >> 20,
            stats.committed.bytes() >> 20,
            zone.isolated(),
        )
    }
}
