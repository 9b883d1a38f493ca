//! Migration through the public interface, with an owner of chains as small as one can be.

#![cfg(not(any(loom, shuttle)))]
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "each test uses a part of it")]
#[path = "driver/store.rs"]
mod store;

use std::sync::Arc;

use frames::{
    Backing, ChainId, ChainKind, Committed, CompactRequest, FrameCount, Isolated, LockedFrame,
    MigrateError, MigrateMode, MigrateType, Migration, MovableOps, Order, Pfn, Reclaim,
    ReleaseStatus, Target, Zone, ZoneConfig,
};
use store::Store;

fn store() -> Arc<Store> {
    let zone = Zone::new(ZoneConfig {
        capacity: FrameCount(1024),
        backing: Backing::Heap,
        ..ZoneConfig::default()
    });
    Store::new(Arc::new(zone.expect("a small zone")).reserve_owner().expect("the only one"), 16)
}

fn chain(store: &Store, frames: usize) -> ChainId {
    store.filled(ChainKind::Multi, frames, 7)
}

fn isolate_all(zone: &Zone) -> Vec<Isolated<'_>> {
    (0..zone.capacity().0 as u32).filter_map(|number| zone.isolate(Pfn(number))).collect()
}

fn migrate<'z>(zone: &'z Zone, batch: &mut Vec<Isolated<'z>>) -> Migration {
    zone.migrate_pages(
        batch,
        &mut |_| zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok(),
        MigrateMode::Async,
    )
}

/// S-16, R-403: the last reader has left a chain with work to do, and migration comes before the work is done. Nothing is copied; migration leaves last
/// now, so the work is its own.
#[test]
fn s16_a_frame_whose_chain_has_work_left_is_not_copied() {
    let store = store();
    let (chains, zone) = (&store.chains, store.chains.zone());
    let id = chain(&store, 2);
    let mut batch = isolate_all(zone);
    let reader = chains.share(id).expect("live");
    assert!(chains.mark_pending(id));
    assert_eq!(reader.release(), ReleaseStatus::Pending, "whose work somebody else does first");
    let done = migrate(zone, &mut batch);
    assert_eq!(done, Migration { gone: 2, ..Migration::default() }, "nothing was copied");
    assert!(chains.share(id).is_none(), "the chain has ended");
    assert_eq!((zone.stats().in_use.0, zone.isolated()), (0, 0));
    zone.check().expect("consistent");
}

/// S-14, R-402: while there is work left in a chain, its frames are not isolated.
#[test]
fn s14_a_frame_whose_chain_has_work_left_is_not_isolated() {
    let store = store();
    let (chains, zone) = (&store.chains, store.chains.zone());
    let id = chain(&store, 3);
    let reader = chains.share(id).expect("live");
    assert_eq!(isolate_all(zone).len(), 3, "a reader is no reason");
    assert!(chains.mark_pending(id));
    assert!(isolate_all(zone).is_empty(), "they are about to be given back");
    assert_eq!(reader.release(), ReleaseStatus::Pending);
    assert_eq!(zone.stats().in_use.0, 3, "and none has lost or gained a reference");
    zone.check().expect("consistent");
}

/// S-11: an aborted batch of frames that moved, frames that were let go of and frames that stay. All counts return to what they were.
#[test]
fn s11_a_mixed_batch_is_put_back_and_nothing_stays_isolated() {
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
    assert_eq!((zone.isolated(), zone.stats().in_use.0), (0, 2), "what is read is what is left");
    drop(reader);
    zone.check().expect("consistent");
}

/// An owner that uses the zone whenever it is called: it would wait for itself if a lock of the zone were held.
#[derive(Debug)]
struct Busy {
    zone: Arc<Zone>,
}

impl Busy {
    fn use_the_zone(&self) {
        drop(self.zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed));
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

/// no lock of the zone is held while an owner is called, be it by isolation, by migration, by a batch that is put back or by compaction.
#[test]
fn r104_owners_may_use_the_zone_while_they_are_called() {
    let zone = Zone::new(ZoneConfig {
        capacity: FrameCount(2048),
        backing: Backing::Heap,
        ..ZoneConfig::default()
    });
    let zone = Arc::new(zone.expect("a small zone"));
    let busy: Arc<dyn MovableOps> = Arc::new(Busy { zone: Arc::clone(&zone) });
    let owner = zone.register(Arc::downgrade(&busy)).expect("a number");
    let low: Vec<_> =
        (0..600).map(|_| zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed)).collect();
    let room = || zone.alloc_frame(owner.migrate_type(), Reclaim::NotAllowed).expect("room");
    let adopt = |_| owner.set_movable(room(), 0, 0).expect("nobody else has it");
    let high: Vec<Pfn> = (0..8).map(adopt).collect();
    drop(zone.isolate(high[0]));
    let mut batch: Vec<_> = zone.isolate(high[0]).into_iter().collect();
    assert_eq!(migrate(&zone, &mut batch).migrated, 1);
    drop(low);
    assert!(zone.compact(CompactRequest::default()).frames_moved > 0);
    zone.check().expect("consistent");
}

/// blocks of several frames and frames of nobody stay where they are; what can move goes around them.
#[test]
fn r101_what_cannot_move_stays_and_what_can_goes_around_it() {
    let store = store();
    let (chains, zone) = (&store.chains, store.chains.zone());
    let mut low = Vec::new();
    let (mut plain, mut blocks) = (Vec::new(), Vec::new());
    let order = Order::new(3).expect("small");
    for _ in 0..24 {
        low.push(chain(&store, 8));
        plain.push(zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).expect("room"));
        blocks.push(
            zone.alloc_block(order, MigrateType::Movable, Reclaim::NotAllowed).expect("room"),
        );
    }
    let places = |zone: &Zone| isolate_all(zone).iter().map(Isolated::pfn).collect::<Vec<_>>();
    assert_eq!(places(zone).len(), 24 * 8, "chains are all there is to move");
    let high: Vec<ChainId> = (0..8).map(|_| chain(&store, 16)).collect();
    low.iter().step_by(2).for_each(|&id| chains.try_exclusive(id).expect("idle").destroy());
    let (before, used) = (places(zone), zone.stats().in_use);
    let stay: Vec<Pfn> = plain.iter().map(frames::Frame::pfn).collect();
    zone.compact(CompactRequest::default());
    assert_eq!((zone.stats().in_use, zone.isolated()), (used, 0));
    assert_eq!(places(zone).len(), before.len());
    assert!(stay.iter().all(|&pfn| zone.get(pfn).is_some()), "nobody moved what has no owner");
    drop((plain, blocks));
    low.iter()
        .skip(1)
        .step_by(2)
        .chain(&high)
        .for_each(|&id| chains.try_exclusive(id).expect("idle").destroy());
    assert_eq!(zone.stats().in_use, FrameCount(0));
    zone.check().expect("consistent");
}
