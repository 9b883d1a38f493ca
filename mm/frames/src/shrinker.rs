//! Shrinkers: callbacks that free frames when memory is short.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use sync::Mutex;

use crate::reclaim::NoLocksHeld;
use crate::units::FrameCount;
use crate::zone::Zone;

/// The callbacks that the zone makes into an owner when memory is short.
///
/// A call that panics counts as one that freed nothing; reclaim continues with the next shrinker.
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

/// A registered shrinker. Dropping it ends the registration; a running call keeps the shrinker's
/// value alive until it returns.
#[derive(Debug)]
pub struct ShrinkerRegistration {
    zone: Arc<Zone>,
    id: u64,
}

impl Shrinkers {
    /// Creates an empty list.
    pub(crate) fn new() -> Self {
        Self { list: Mutex::ranked(sync::Rank::Leaf, Vec::new()) }
    }

    fn add(&self, priority: ShrinkerPriority, shrinker: Weak<dyn Shrinker>) -> u64 {
        let mut list = self.list.lock();
        let id = list.iter().map(|entry| entry.id + 1).max().unwrap_or(0);
        list.push(Entry { priority, id, shrinker });
        // Stable: shrinkers of one priority are called in the order of registration.
        list.sort_by_key(|entry| entry.priority);
        id
    }

    fn remove(&self, id: u64) {
        self.list.lock().retain(|entry| entry.id != id);
    }

    /// Returns the registered shrinkers that are still alive.
    fn snapshot(&self) -> Vec<Arc<dyn Shrinker>> {
        self.list.lock().iter().filter_map(|entry| entry.shrinker.upgrade()).collect()
    }
}

impl Zone {
    /// Registers a shrinker.
    pub fn register_shrinker(
        self: &Arc<Self>,
        priority: ShrinkerPriority,
        shrinker: Weak<dyn Shrinker>,
    ) -> ShrinkerRegistration {
        ShrinkerRegistration { zone: Arc::clone(self), id: self.shrinkers.add(priority, shrinker) }
    }

    /// Returns an estimate of the frames that all shrinkers together could free.
    #[must_use]
    pub fn shrinkable(&self) -> FrameCount {
        let counts = self
            .shrinkers
            .snapshot()
            .into_iter()
            .map(|shrinker| call_catching_panic(|| shrinker.count()));
        FrameCount(counts.fold(0, u64::saturating_add))
    }

    /// Calls shrinkers, in the order of their priority, until they have freed `want` frames.
    /// Returns how many they freed. In a poisoned zone it calls none: the freed frames would be
    /// lost.
    ///
    /// Locking: no lock is held while they run.
    pub fn shrink(&self, want: FrameCount, promise: &NoLocksHeld) -> FrameCount {
        if self.is_poisoned() {
            return FrameCount(0);
        }
        let mut freed = 0_u64;
        for shrinker in self.shrinkers.snapshot() {
            if freed >= want.0 {
                break;
            }
            freed = freed.saturating_add(call_catching_panic(|| {
                shrinker.scan(FrameCount(want.0 - freed), promise)
            }));
        }
        FrameCount(freed)
    }
}

fn call_catching_panic(call: impl FnOnce() -> FrameCount) -> u64 {
    catch_unwind(AssertUnwindSafe(call)).map_or(0, |frames| frames.0)
}

impl Drop for ShrinkerRegistration {
    fn drop(&mut self) {
        self.zone.shrinkers.remove(self.id);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{AllocError, Backing, MigrateType, Reclaim, ZoneConfig};

    /// Records its calls and returns what the test wants.
    #[derive(Debug)]
    struct TestShrinker {
        name: &'static str,
        /// `None`: it panics.
        frees: Option<u64>,
        asked: Arc<Mutex<Vec<(&'static str, u64)>>>,
    }

    impl Shrinker for TestShrinker {
        fn count(&self) -> FrameCount {
            FrameCount(self.frees.expect("a shrinker that panics"))
        }

        fn scan(&self, target: FrameCount, _: &NoLocksHeld) -> FrameCount {
            self.asked.lock().expect("no panic while it is held").push((self.name, target.0));
            self.count()
        }
    }

    fn full() -> Arc<Zone> {
        let limit = Some(FrameCount(0));
        let config = ZoneConfig {
            capacity: FrameCount(1024),
            limit,
            backing: Backing::Heap,
            ..ZoneConfig::default()
        };
        Arc::new(Zone::new(config).expect("a small zone"))
    }

    /// in the order of their priority, each for what is still missing, until it is enough.
    #[test]
    fn r337_shrinkers_are_called_in_turn_until_enough() {
        let (zone, asked) = (full(), Arc::default());
        let shrinker = |name, frees| {
            Arc::new(TestShrinker { name, frees: Some(frees), asked: Arc::clone(&asked) })
        };
        let all = [
            shrinker("balloon", 10),
            shrinker("cache", 3),
            shrinker("second cache", 2),
            shrinker("objects", 4),
        ];
        let priorities = [
            ShrinkerPriority::Balloon,
            ShrinkerPriority::Cache,
            ShrinkerPriority::Cache,
            ShrinkerPriority::Compaction,
        ];
        let register = |(shrinker, priority): (&Arc<TestShrinker>, ShrinkerPriority)| {
            let weak: Weak<dyn Shrinker> = Arc::downgrade(shrinker) as _;
            zone.register_shrinker(priority, weak)
        };
        let mut registered: Vec<_> = all.iter().zip(priorities).map(register).collect();
        assert_eq!(zone.shrinkable(), FrameCount(19));
        assert_eq!(zone.shrink(FrameCount(8), &NoLocksHeld::promise()), FrameCount(9));
        let seen = std::mem::take(&mut *asked.lock().expect("no panic inside"));
        assert_eq!(seen, [("cache", 8), ("second cache", 5), ("objects", 3)]);
        registered.remove(1);
        assert_eq!(
            zone.shrink(FrameCount(1), &NoLocksHeld::promise()),
            FrameCount(2),
            "the first cache is no longer asked"
        );
    }

    /// A shrinker that panics frees nothing and does not block reclaim. One that reports frames
    /// which do not exist is called eight times.
    #[test]
    fn a_broken_shrinker_does_not_block_reclaim() {
        let (zone, asked) = (full(), Arc::default());
        let quiet = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let broken =
            Arc::new(TestShrinker { name: "broken", frees: None, asked: Arc::clone(&asked) });
        let liar = Arc::new(TestShrinker {
            name: "liar",
            frees: Some(u64::MAX),
            asked: Arc::clone(&asked),
        });
        let (first, second): (Weak<dyn Shrinker>, Weak<dyn Shrinker>) =
            (Arc::downgrade(&broken) as _, Arc::downgrade(&liar) as _);
        let _registered = [
            zone.register_shrinker(ShrinkerPriority::Cache, first),
            zone.register_shrinker(ShrinkerPriority::Cache, second),
        ];
        assert_eq!(zone.shrinkable(), FrameCount(u64::MAX));
        let refused = zone
            .alloc_frame(MigrateType::Movable, Reclaim::Allowed(NoLocksHeld::promise()))
            .map(drop);
        std::panic::set_hook(quiet);
        assert_eq!(refused, Err(AllocError::Limit));
        assert_eq!(*asked.lock().expect("no panic inside"), [("broken", 1), ("liar", 1)].repeat(8));
        zone.check().expect("consistent");
    }
}
