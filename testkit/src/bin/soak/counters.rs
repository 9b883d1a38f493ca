//! Counters of the operations so far.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use frames::Zone;

/// Counters of all operations.
#[derive(Debug, Default)]
pub struct Counters {
    pub stored: AtomicU64,
    pub overwritten: AtomicU64,
    pub read: AtomicU64,
    pub freed: AtomicU64,
    pub refused: AtomicU64,
    pub bytes: AtomicU64,
    pub objects_moved: AtomicU64,
    pub bytes_moved: AtomicU64,
    pub frames_moved: AtomicU64,
    pub frames_gone: AtomicU64,
    pub ranges: AtomicU64,
    pub blocks: AtomicU64,
    pub ballooned: AtomicU64,
    pub recreated: AtomicU64,
    pub verified_at_the_end_of_pools: AtomicU64,
}

/// Adds to a counter.
pub fn add(counter: &AtomicU64, count: u64) {
    // Relaxed: statistics.
    counter.fetch_add(count, Relaxed);
}

impl Counters {
    /// Returns all counters on one line.
    pub fn line(&self, zone: &Zone) -> String {
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
