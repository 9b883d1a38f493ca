//! Shrinkers: callbacks that free frames when memory is short, and the requests that may call them.

use std::fmt::Debug;
use std::sync::{Arc, Weak};

use sync::Mutex;

use crate::units::FrameCount;

/// What a request may do when no frame is free. It always drains the per-CPU lists: their locks
/// come last in the order, so this is safe wherever frames are allocated. Calling shrinkers of
/// owners is not, and needs the promise of [`NoLocksHeld`].
#[derive(Debug)]
pub enum Reclaim {
    /// The request does only what the zone can do by itself.
    NotAllowed,
    /// The request may call shrinkers.
    Allowed(NoLocksHeld),
}

/// The promise that the calling thread holds no lock of the pool or of a chain.
#[derive(Debug)]
pub struct NoLocksHeld(());

impl NoLocksHeld {
    /// Makes the promise. A thread that breaks it can deadlock.
    #[must_use]
    pub fn promise() -> Self {
        Self(())
    }
}

/// The callbacks that the zone makes into an owner when memory is short. A call that panics counts
/// as one that freed nothing; reclaim continues with the next shrinker.
pub trait Shrinker: Debug + Send + Sync {
    /// Returns how many frames it could free. An estimate, never more than it has.
    fn count(&self) -> FrameCount;

    /// Frees about `target` frames and returns how many the zone got back. Zero means that it can
    /// free nothing now.
    fn scan(&self, target: FrameCount, promise: &NoLocksHeld) -> FrameCount;
}

/// The order in which shrinkers are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShrinkerPriority {
    /// Copies of data that is stored elsewhere: caches.
    Cache,
    /// Unused room inside of frames: object compaction.
    Compaction,
    /// Memory promised to another user: the balloon.
    Balloon,
}

/// The registered shrinkers of a zone, in the order of their priority.
#[derive(Debug)]
pub(crate) struct Shrinkers {
    list: Mutex<Vec<Entry>>,
}

#[derive(Clone, Debug)]
struct Entry {
    priority: ShrinkerPriority,
    id: u64,
    shrinker: Weak<dyn Shrinker>,
}

impl Shrinkers {
    pub(crate) fn new() -> Self {
        Self { list: Mutex::ranked(sync::Rank::Leaf, Vec::new()) }
    }

    /// Adds a shrinker; returns the number of its registration.
    pub(crate) fn add(&self, priority: ShrinkerPriority, shrinker: Weak<dyn Shrinker>) -> u64 {
        let mut list = self.list.lock();
        let id = list.iter().map(|entry| entry.id + 1).max().unwrap_or(0);
        list.push(Entry { priority, id, shrinker });
        // Stable: shrinkers of one priority are called in the order of registration.
        list.sort_by_key(|entry| entry.priority);
        id
    }

    pub(crate) fn remove(&self, id: u64) {
        self.list.lock().retain(|entry| entry.id != id);
    }

    /// Returns the registered shrinkers that are still alive.
    pub(crate) fn snapshot(&self) -> Vec<Arc<dyn Shrinker>> {
        self.list.lock().iter().filter_map(|entry| entry.shrinker.upgrade()).collect()
    }
}
