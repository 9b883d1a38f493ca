//! Migration through the public interface, with a minimal owner of chains.

#![cfg(not(any(loom, shuttle)))]
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "each test uses a part of it")]
#[path = "driver/store.rs"]
mod store;
#[expect(dead_code, reason = "each test uses a part of it")]
#[path = "driver/zones.rs"]
mod zones;

use std::sync::Arc;

use frames::{
    ChainId, ChainKind, Committed, CompactRequest, FrameCount, Isolated, LockedFrame, MigrateError,
    MigrateMode, Migration, MovableOps, Order, Pfn, Reclaim, ReleaseStatus, Target, Zone,
};

use store::Store;
use zones::{heap_zone, take, take_block};

fn store() -> Arc<Store> {
    Store::new(heap_zone(1024).reserve_owner().expect("the only one"), 16)
}

fn chain(store: &Store, frames: usize) -> ChainId {
    store.filled(ChainKind::Multi, frames, 7)
}

fn isolate_all(zone: &Zone) -> Vec<Isolated<'_>> {
    (0..zone.capacity().0 as u32).filter_map(|number| zone.isolate(Pfn(number))).collect()
}

fn migrate<'z>(zone: &'z Zone, batch: &mut Vec<Isolated<'z>>) -> Migration {
    zone.migrate_pages(batch, &mut |_| take(zone).ok(), MigrateMode::Async)
}

/// S-16, R-403: the last reader has left a chain with pending work, and migration runs before the
/// work is done. Nothing is copied. Migration is the last to leave now, so it must do the work.
#[test]
fn s16_a_frame_of_a_pending_chain_is_not_copied() {
    let store = store();
    let (chains, zone) = (&store.chains, store.chains.zone());
    let id = chain(&store, 2);
    let mut batch = isolate_all(zone);
    let reader = chains.share(id).expect("live");
    assert!(chains.mark_pending(id));
    assert_eq!(reader.release(), ReleaseStatus::Pending, "the work is pending");
    let done = migrate(zone, &mut batch);
    assert_eq!(done, Migration { gone: 2, ..Migration::default() }, "nothing was copied");
    assert!(chains.share(id).is_none(), "the chain has ended");
    assert_eq!((zone.stats().in_use.0, zone.isolated()), (0, 0));
    zone.check().expect("consistent");
}

/// S-14, R-402: frames of a chain with pending work are not isolated.
#[test]
fn s14_a_frame_of_a_pending_chain_is_not_isolated() {
    let store = store();
    let (chains, zone) = (&store.chains, store.chains.zone());
    let id = chain(&store, 3);
    let reader = chains.share(id).expect("live");
    assert_eq!(isolate_all(zone).len(), 3, "readers do not prevent isolation");
    assert!(chains.mark_pending(id));
    assert!(isolate_all(zone).is_empty(), "they are about to be freed");
    assert_eq!(reader.release(), ReleaseStatus::Pending);
    assert_eq!(zone.stats().in_use.0, 3, "the reference counts are unchanged");
    zone.check().expect("consistent");
}

/// S-11: an aborted batch of frames that were moved, released or busy. All counts
/// return to what they were.
#[test]
fn s11_a_mixed_batch_leaves_nothing_isolated() {
    let store = store();
    let (chains, zone) = (&store.chains, store.chains.zone());
    let ids: Vec<ChainId> = (0..3).map(|_| chain(&store, 2)).collect();
    let mut batch = isolate_all(zone);
    assert_eq!((batch.len(), zone.isolated()), (6, 6));
    chains.try_exclusive(ids[0]).expect("idle").destroy();
    let reader = chains.share(ids[1]).expect("live");
    let done = migrate(zone, &mut batch);
    assert_eq!((done.gone, done.again, done.migrated), (2, 2, 2));
    chains.try_exclusive(ids[2]).expect("idle").destroy();
    batch.clear();
    assert_eq!(
        (zone.isolated(), zone.stats().in_use.0),
        (0, 2),
        "only the frames of the reader are left"
    );
    drop(reader);
    zone.check().expect("consistent");
}

/// An owner that uses the zone in every callback: it would deadlock if a lock of the zone were
/// held.
#[derive(Debug)]
struct Busy {
    zone: Arc<Zone>,
}

impl Busy {
    fn use_the_zone(&self) {
        drop(take(&self.zone));
        self.zone.drain();
        // Takes every lock of the zone.
        self.zone.set_limit(None);
    }
}

impl MovableOps for Busy {
    fn isolate(&self, _: &LockedFrame<'_>) -> bool {
        self.use_the_zone();
        true
    }

    fn migrate<'z>(
        &self,
        from: &LockedFrame<'_>,
        to: Target<'z>,
        _: MigrateMode,
    ) -> Result<Committed, MigrateError<'z>> {
        self.use_the_zone();
        to.commit(from)
    }

    fn putback(&self, _: &LockedFrame<'_>) {
        self.use_the_zone();
    }
}

/// no lock of the zone is held during a callback, be it in isolation, migration, putback
/// or compaction.
#[test]
fn r104_owners_may_use_the_zone_while_they_are_called() {
    let zone = heap_zone(2048);
    let busy: Arc<dyn MovableOps> = Arc::new(Busy { zone: Arc::clone(&zone) });
    let owner = zone.reserve_owner().expect("a number");
    owner.publish(Arc::downgrade(&busy));
    let low: Vec<_> = (0..600).map(|_| take(&zone)).collect();
    let room = || zone.alloc_frame(owner.migrate_type(), Reclaim::NotAllowed).expect("room");
    let movable = |_| owner.set_movable(room(), 0, 0).expect("no other reference");
    let high: Vec<Pfn> = (0..8).map(movable).collect();
    drop(zone.isolate(high[0]));
    let mut batch: Vec<_> = zone.isolate(high[0]).into_iter().collect();
    assert_eq!(migrate(&zone, &mut batch).migrated, 1);
    drop(low);
    assert!(zone.compact(CompactRequest::default()).frames_moved > 0);
    zone.check().expect("consistent");
}

/// blocks and frames without an owner stay where they are, and movable frames move
/// around them.
#[test]
fn r101_frames_without_owner_stay_where_they_are() {
    let store = store();
    let (chains, zone) = (&store.chains, store.chains.zone());
    let mut low = Vec::new();
    let (mut plain, mut blocks) = (Vec::new(), Vec::new());
    let order = Order::new(3).expect("small");
    for _ in 0..24 {
        low.push(chain(&store, 8));
        plain.push(take(zone).expect("room"));
        blocks.push(take_block(zone, order).expect("room"));
    }
    let places = |zone: &Zone| isolate_all(zone).iter().map(Isolated::pfn).collect::<Vec<_>>();
    assert_eq!(places(zone).len(), 24 * 8, "only frames of chains are movable");
    let high: Vec<ChainId> = (0..8).map(|_| chain(&store, 16)).collect();
    low.iter().step_by(2).for_each(|&id| chains.try_exclusive(id).expect("idle").destroy());
    let (before, used) = (places(zone), zone.stats().in_use);
    let stay: Vec<Pfn> = plain.iter().map(frames::Frame::pfn).collect();
    zone.compact(CompactRequest::default());
    assert_eq!((zone.stats().in_use, zone.isolated()), (used, 0));
    assert_eq!(places(zone).len(), before.len());
    assert!(stay.iter().all(|&pfn| zone.get(pfn).is_some()), "frames without an owner stay");
    drop((plain, blocks));
    low.iter()
        .skip(1)
        .step_by(2)
        .chain(&high)
        .for_each(|&id| chains.try_exclusive(id).expect("idle").destroy());
    assert_eq!(zone.stats().in_use, FrameCount(0));
    zone.check().expect("consistent");
}
