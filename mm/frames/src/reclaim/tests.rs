//! Shrinkers: order, priorities, and those that misbehave.

use std::sync::Mutex;

use super::*;
use crate::zones::{quietly, zone_with};
use crate::{AllocError, MigrateType, Reclaim};

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
    zone_with(1024, |config| config.limit = Some(FrameCount(0)))
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
    let broken = Arc::new(TestShrinker { name: "broken", frees: None, asked: Arc::clone(&asked) });
    let liar =
        Arc::new(TestShrinker { name: "liar", frees: Some(u64::MAX), asked: Arc::clone(&asked) });
    let (first, second): (Weak<dyn Shrinker>, Weak<dyn Shrinker>) =
        (Arc::downgrade(&broken) as _, Arc::downgrade(&liar) as _);
    let _registered = [
        zone.register_shrinker(ShrinkerPriority::Cache, first),
        zone.register_shrinker(ShrinkerPriority::Cache, second),
    ];
    assert_eq!(quietly(|| zone.shrinkable()), FrameCount(u64::MAX));
    let reclaim = Reclaim::Allowed(NoLocksHeld::promise());
    let refused = quietly(|| zone.alloc_frame(MigrateType::Movable, reclaim).map(drop));
    assert_eq!(refused, Err(AllocError::Limit));
    assert_eq!(*asked.lock().expect("no panic inside"), [("broken", 1), ("liar", 1)].repeat(8));
    zone.check().expect("consistent");
}
