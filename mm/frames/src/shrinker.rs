//! Shrinkers: who can make room when memory is short.

use std::fmt::Debug;
use std::sync::{Arc, Weak};

use sync::Mutex;

use crate::reclaim::NoLocksHeld;
use crate::units::FrameCount;
use crate::zone::Zone;

/// The second of the two calls that climb: memory is short.
pub trait Shrinker: Debug + Send + Sync {
    /// Frames it could give up. An estimate; never more than it has.
    fn count(&self) -> FrameCount;

    /// Gives up about `target` frames and says how many went back to the zone; zero means that there is nothing to be had just now.
    fn scan(&self, target: FrameCount, promise: &NoLocksHeld) -> FrameCount;
}

/// Who is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Copies of what is stored anyway: caches.
    Cache,
    /// Room between things: object compaction.
    Compaction,
    /// Memory promised to somebody else: the balloon.
    Balloon,
}

#[derive(Debug)]
pub(crate) struct Shrinkers {
    list: Mutex<Vec<Entry>>,
}

#[derive(Clone, Debug)]
struct Entry {
    priority: Priority,
    number: u64,
    shrinker: Weak<dyn Shrinker>,
}

/// A registered shrinker. Dropping it ends the registration; a call under way holds the shrinker's value alive until it returns.
#[derive(Debug)]
pub struct ShrinkerRegistration {
    zone: Arc<Zone>,
    number: u64,
}

impl Shrinkers {
    pub(crate) fn new() -> Self {
        Self { list: Mutex::new(Vec::new()) }
    }

    fn add(&self, priority: Priority, shrinker: Weak<dyn Shrinker>) -> u64 {
        let mut list = self.list.lock();
        let number = list.iter().map(|entry| entry.number + 1).max().unwrap_or(0);
        list.push(Entry { priority, number, shrinker });
        // Stable: those of one priority are asked in the order they came.
        list.sort_by_key(|entry| entry.priority);
        number
    }

    fn remove(&self, number: u64) {
        self.list.lock().retain(|entry| entry.number != number);
    }

    fn snapshot(&self) -> Vec<Arc<dyn Shrinker>> {
        self.list.lock().iter().filter_map(|entry| entry.shrinker.upgrade()).collect()
    }
}

impl Zone {
    /// Registers somebody who can make room.
    pub fn register_shrinker(
        self: &Arc<Self>,
        priority: Priority,
        shrinker: Weak<dyn Shrinker>,
    ) -> ShrinkerRegistration {
        ShrinkerRegistration { zone: Arc::clone(self), number: self.shrinkers.add(priority, shrinker) }
    }

    /// Frames all shrinkers together could give up: an estimate.
    #[must_use]
    pub fn shrinkable(&self) -> FrameCount {
        FrameCount(self.shrinkers.snapshot().iter().map(|shrinker| shrinker.count().0).sum())
    }

    /// Has shrinkers give up frames, in the order of their priority, until `want` of them are free. Says how many there were.
    ///
    /// Locking: none while they work.
    pub fn shrink(&self, want: FrameCount, promise: &NoLocksHeld) -> FrameCount {
        let mut freed = 0;
        for shrinker in self.shrinkers.snapshot() {
            if freed >= want.0 {
                break;
            }
            freed += shrinker.scan(FrameCount(want.0 - freed), promise).0;
        }
        FrameCount(freed)
    }
}

impl Drop for ShrinkerRegistration {
    fn drop(&mut self) {
        self.zone.shrinkers.remove(self.number);
    }
}
