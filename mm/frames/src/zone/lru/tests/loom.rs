//! The lists against migration: interleavings of two threads on the real descriptors.

use std::sync::Arc;

use super::super::*;
use crate::store::Store;
use crate::zones::{beside, heap_zone, take};
use crate::{ChainId, ChainKind, MigrateMode};

/// Creates a cache of one frame, which is the first of its zone.
fn cache() -> (Arc<Store>, ChainId, Pfn) {
    let cache = Store::new(heap_zone(8).reserve_lru_owner().expect("a number"), 4);
    let id = cache.filled(ChainKind::Single, 1, 7);
    assert!(cache.lru().add(Pfn(0)));
    (cache, id, Pfn(0))
}

/// Checks that the lists and the zone are sound, with `frames` frames in use.
fn is_sound(cache: &Store, frames: u64) {
    cache.lru().check().expect("sound lists");
    cache.zone().check().expect("a sound zone");
    assert_eq!(cache.zone().stats().in_use, FrameCount(frames));
}

fn is_empty(cache: &Store) {
    let stats = cache.lru().stats();
    assert_eq!(
        (stats.inactive, stats.active),
        (FrameCount(0), FrameCount(0)),
        "no frame is on a list"
    );
    is_sound(cache, 0);
}

/// INV-LRU-1, R-023, R-026: the owner releases a frame while it is being put back. It is on no
/// list afterwards.
#[test]
fn r026_putback_against_release() {
    sync::model(|| {
        let (cache, id, pfn) = cache();
        let other = beside(&cache, move |cache| drop(cache.zone().isolate(pfn)));
        cache.end(id);
        other.join().expect("no panic");
        is_empty(&cache);
    });
}

/// R-020, S-37, INV-LRU-1: the owner releases a frame while it is being moved. Neither frame is
/// on a list afterwards.
#[test]
fn s37_migrate_against_release() {
    sync::model(|| {
        let (cache, id, pfn) = cache();
        let mover = beside(&cache, move |cache| migrate(cache, pfn));
        cache.end(id);
        mover.join().expect("no panic");
        is_empty(&cache);
    });
}

fn migrate(cache: &Store, pfn: Pfn) {
    let zone = cache.zone();
    let mut target = take(zone).ok();
    if let Some(isolated) = zone.isolate(pfn) {
        let _ = zone.migrate_pages(&mut vec![isolated], &mut |_| target.take(), MigrateMode::Async);
    }
}

/// INV-LRU-1, S-37: the owner adds a frame that is already on its list, while it is being moved.
/// The old frame is freed on no list.
#[test]
fn s37_migrate_against_a_frame_added_twice() {
    sync::model(|| {
        let (cache, id, pfn) = cache();
        let mover = beside(&cache, move |cache| migrate(cache, pfn));
        // It stays the owner's frame while the chain is held.
        let shared = cache.chains.share(id).expect("live");
        let _ = shared.frame(0).map(|frame| cache.lru().add(frame));
        cache.left(id, shared.release());
        mover.join().expect("no panic");
        assert_eq!(cache.lru().scan(), Some(id.to_bits()));
        is_sound(&cache, 1);
    });
}

/// S-43: a scan races with the isolation of the only frame. It finds the frame or nothing, and
/// the frame ends up on its list.
#[test]
fn s43_scan_against_isolate() {
    sync::model(|| {
        let (cache, id, pfn) = cache();
        let other = beside(&cache, move |cache| drop(cache.zone().isolate(pfn)));
        let found = cache.lru().scan();
        assert!(found.is_none() || found == Some(id.to_bits()));
        other.join().expect("no panic");
        assert_eq!(cache.lru().scan(), Some(id.to_bits()));
        is_sound(&cache, 1);
    });
}

/// INV-LRU-2: a frame is accessed while it is removed from its list and put back.
#[test]
fn mark_accessed_against_isolate() {
    sync::model(|| {
        let (cache, id, pfn) = cache();
        let other = beside(&cache, move |cache| drop(cache.zone().isolate(pfn)));
        cache.lru().mark_accessed(pfn);
        other.join().expect("no panic");
        assert_eq!(cache.lru().scan(), Some(id.to_bits()));
        is_sound(&cache, 1);
    });
}

/// INV-LRU-1, R-026, S-37: the same with the frame isolated beforehand: the owner releases it
/// between any two steps of the putback.
#[test]
fn s37_release_against_a_putback_under_way() {
    sync::model(|| {
        let (cache, id, pfn) = cache();
        let isolated = cache.zone().isolate(pfn);
        let owner = beside(&cache, move |cache| cache.end(id));
        drop(isolated);
        owner.join().expect("no panic");
        is_empty(&cache);
    });
}
