//! The lists against migration, every interleaving of two threads on the real descriptors.

use std::sync::{Arc, Weak};

use sync::thread;

use super::*;
use crate::{
    Accepted, Backing, ExtentId, Extents, Leaving, Locked, MigrateType, Mode, MovableOps, OwnerWords, Reclaim, Refused,
    Shape, Target, ZoneConfig,
};

#[derive(Debug)]
struct Cache {
    extents: Extents,
}

impl MovableOps for Cache {
    fn isolate(&self, frame: &Locked<'_>) -> bool {
        self.extents.can_isolate(frame)
    }

    fn migrate<'z>(&self, from: &Locked<'_>, to: Target<'z>, _: Mode) -> Result<Accepted, Refused<'z>> {
        let moved = self.extents.migrate_frame(from, to);
        if let Some((id, Leaving::Pending)) = moved.left {
            self.end(id);
        }
        moved.result
    }

    fn putback(&self, _: &Locked<'_>) {}

    fn lru(&self) -> Option<&Lru> {
        self.extents.lru()
    }
}

impl Cache {
    fn lru(&self) -> &Lru {
        self.extents.lru().expect("it has one")
    }

    /// Ends the extent, now or when whoever is inside leaves.
    fn end(&self, id: ExtentId) {
        loop {
            if let Some(held) = self.extents.try_exclusive(id) {
                return held.destroy();
            }
            if self.extents.tag(id).is_none() || self.extents.mark_pending(id) {
                return;
            }
        }
    }

    fn is_empty(&self) {
        let stats = self.lru().stats();
        assert_eq!((stats.inactive, stats.active), (FrameCount(0), FrameCount(0)));
        self.is_sound(0);
    }

    fn is_sound(&self, frames: u64) {
        self.lru().check().expect("sound lists");
        self.extents.zone().check().expect("a sound zone");
        assert_eq!(self.extents.zone().stats().in_use, FrameCount(frames));
    }
}

/// A cache of one frame, which is the first of its zone.
fn cache() -> (Arc<Cache>, ExtentId, Pfn) {
    let zone = Zone::new(ZoneConfig { capacity: FrameCount(8), backing: Backing::Heap, ..ZoneConfig::default() });
    let owner = Arc::new(zone.expect("a tiny zone")).reserve_lru_owner().expect("a number");
    let extents = Extents::new(owner, 4, OwnerWords::default(), Backing::Heap).expect("small tables");
    let cache = Arc::new(Cache { extents });
    let ops: Weak<dyn MovableOps> = Arc::downgrade(&cache) as _;
    cache.extents.publish(ops);
    let mut fresh = cache.extents.create(Shape::Single, 1).expect("room");
    fresh.attach(0, Reclaim::NotAllowed).expect("room");
    let pfn = fresh.frame(0).expect("just attached");
    assert!(cache.lru().add(pfn));
    let id = fresh.id();
    let _ = fresh.release();
    (cache, id, pfn)
}

/// INV-LRU-1, R-023, R-026: the owner lets go of a frame while it is being put back. It is on no list afterwards.
#[test]
fn r026_putback_against_release() {
    sync::model(|| {
        let (cache, id, pfn) = cache();
        let other = {
            let cache = Arc::clone(&cache);
            thread::spawn(move || drop(cache.extents.zone().isolate(pfn)))
        };
        cache.end(id);
        other.join().expect("no panic");
        cache.is_empty();
    });
}

/// R-020, S-37, INV-LRU-1: the owner lets go of a frame while it is being moved. Neither frame is on a list afterwards.
#[test]
fn s37_migrate_against_release() {
    sync::model(|| {
        let (cache, id, pfn) = cache();
        let mover = {
            let cache = Arc::clone(&cache);
            thread::spawn(move || {
                let zone = cache.extents.zone();
                let mut target = zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok();
                if let Some(isolated) = zone.isolate(pfn) {
                    let _ = zone.migrate_pages(&mut vec![isolated], &mut |_| target.take(), Mode::Async);
                }
            })
        };
        cache.end(id);
        mover.join().expect("no panic");
        cache.is_empty();
    });
}

/// S-43: a scan meets the isolation of the only frame. It finds the frame or nothing, and the frame ends on its list.
#[test]
fn s43_scan_against_isolate() {
    sync::model(|| {
        let (cache, id, pfn) = cache();
        let other = {
            let cache = Arc::clone(&cache);
            thread::spawn(move || drop(cache.extents.zone().isolate(pfn)))
        };
        let found = cache.lru().scan();
        assert!(found.is_none() || found == Some(id.to_bits()));
        other.join().expect("no panic");
        assert_eq!(cache.lru().scan(), Some(id.to_bits()));
        cache.is_sound(1);
    });
}

/// INV-LRU-2: a frame is touched while it is taken off its list and put back.
#[test]
fn touch_against_isolate() {
    sync::model(|| {
        let (cache, id, pfn) = cache();
        let other = {
            let cache = Arc::clone(&cache);
            thread::spawn(move || drop(cache.extents.zone().isolate(pfn)))
        };
        cache.lru().touch(pfn);
        other.join().expect("no panic");
        assert_eq!(cache.lru().scan(), Some(id.to_bits()));
        cache.is_sound(1);
    });
}

/// INV-LRU-1, R-026, S-37: the same, with the frame isolated beforehand: the owner lets go of it between any two steps of the putback.
#[test]
fn s37_release_against_a_putback_under_way() {
    sync::model(|| {
        let (cache, id, pfn) = cache();
        let isolated = cache.extents.zone().isolate(pfn);
        let owner = {
            let cache = Arc::clone(&cache);
            thread::spawn(move || cache.end(id))
        };
        drop(isolated);
        owner.join().expect("no panic");
        cache.is_empty();
    });
}
