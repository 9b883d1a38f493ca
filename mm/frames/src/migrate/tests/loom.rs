//! Migration's protocols under loom: interleavings of two threads on the real descriptors.

use std::sync::Arc;

use super::super::*;
use crate::compaction::ContigCapture;
use crate::store::Store;
use crate::units::BlockIndex;
use crate::zones::{beside, heap_zone, take, take_all};
use crate::{
    Budget, ChainId, ChainKind, Committed, FrameChains, FrameCount, LockedFrame, MigrateError,
    MovableOps, Pfn, Reclaim, Target, Zone,
};

fn empty_store() -> Arc<Store> {
    Store::new(heap_zone(8).reserve_owner().expect("a number"), 4)
}

fn store() -> (Arc<Store>, ChainId, Pfn) {
    let store = empty_store();
    let id = store.filled(ChainKind::Single, 1, 7);
    // The first frame of a zone.
    (store, id, Pfn(0))
}

/// Tries once to move the frame, with a target taken beforehand so that the model stays small.
fn migrate(zone: &Zone, pfn: Pfn) -> Option<Migration> {
    let mut target = take(zone).ok();
    let isolated = zone.isolate(pfn)?;
    let mut batch = vec![isolated];
    let done = zone.migrate_pages(&mut batch, &mut |_| target.take(), MigrateMode::Async);
    Some(done)
}

fn in_use(zone: &Zone) -> u64 {
    zone.stats().in_use.0
}

/// S-01, S-02, S-20, S-53: a reader races with the move of the frame it reads. It sees the bytes,
/// in the old frame or the new one.
#[test]
fn s01_reader_against_migrate() {
    sync::model(|| {
        let (store, id, pfn) = store();
        let mover = beside(&store, move |store| migrate(store.zone(), pfn));
        let shared = store.chains.share(id).expect("live");
        assert_eq!(shared.pieces(0..8).expect("there").0, [7; 8]);
        store.left(id, shared.release());
        mover.join().expect("no panic");
        let shared = store.chains.share(id).expect("live");
        assert_eq!(shared.pieces(0..8).expect("there").0, [7; 8]);
        drop(shared);
        assert_eq!(in_use(store.zone()), 1);
        store.zone().check().expect("consistent");
    });
}

/// S-04, S-08, S-10, S-12, S-16, B9, B13a: the owner destroys the chain while its frame is
/// isolated, moved or put back.
#[test]
fn s12_free_against_isolate_and_migrate() {
    sync::model(|| {
        let (store, id, pfn) = store();
        let mover = beside(&store, move |store| migrate(store.zone(), pfn));
        store.end(id);
        mover.join().expect("no panic");
        assert_eq!(in_use(store.zone()), 0, "freed, wherever it was");
        store.zone().check().expect("consistent");
    });
}

/// S-03, R-163: two scanners isolate the same frame.
#[test]
fn s03_isolate_against_isolate() {
    sync::model(|| {
        let (store, id, pfn) = store();
        let other = beside(&store, move |store| store.zone().isolate(pfn).is_some());
        let mine = store.zone().isolate(pfn);
        let got = mine.is_some();
        if got {
            assert!(store.zone().isolate(pfn).is_none(), "isolated once");
        }
        drop(mine);
        let theirs = other.join().expect("no panic");
        assert!(got || theirs, "one of them gets it");
        store.chains.try_exclusive(id).expect("idle").destroy();
        store.zone().check().expect("consistent");
    });
}

/// S-05, R-281: no thread gets a reference to a frame between its allocation for a chain and its
/// publication there.
#[test]
fn s05_get_against_attach() {
    sync::model(|| {
        let store = empty_store();
        let looker = beside(&store, |store| {
            // The first frame of a new zone is the one that is attached.
            let Some(found) = store.zone().get(Pfn(0)) else { return };
            let state = store.zone().tables().frames.state(found.pfn());
            assert!(state.owner().is_some(), "a reference to a frame that is not published");
        });
        let id = store.filled(ChainKind::Single, 1, 7);
        looker.join().expect("no panic");
        store.assert_filled(id, 1, 7);
        store.end(id);
        store.zone().check().expect("consistent");
    });
}

/// S-39, S-40, R-154: an owner reclaims a frame while a scanner isolates it. One of them gets it.
#[test]
fn s39_reclaim_from_owner_against_isolate() {
    #[derive(Debug)]
    struct Plain;
    impl MovableOps for Plain {
        fn isolate(&self, _: &LockedFrame<'_>) -> bool {
            true
        }
        fn migrate<'z>(
            &self,
            _: &LockedFrame<'_>,
            to: Target<'z>,
            _: MigrateMode,
        ) -> Result<Committed, MigrateError<'z>> {
            Err(MigrateError::Failed(to))
        }
        fn putback(&self, _: &LockedFrame<'_>) {}
    }
    sync::model(|| {
        let zone = heap_zone(8);
        let plain: Arc<dyn MovableOps> = Arc::new(Plain);
        let owner = zone.reserve_owner().expect("a number");
        owner.publish(Arc::downgrade(&plain));
        let frame = zone.alloc_frame(owner.migrate_type(), Reclaim::NotAllowed).expect("room");
        let pfn = owner.set_movable(frame, 0, 0).expect("no other reference");
        let scanner = beside(&zone, move |zone| zone.isolate(pfn).map(|held| held.pfn()));
        let back = owner.reclaim_from_owner(pfn);
        if back.is_some() {
            // A scanner that is done may still have its reference for a moment, but not the
            // frame.
            assert!(
                !zone.tables().frames.state(pfn).is_isolated(),
                "a reclaimed frame is isolated"
            );
        }
        let taken = back.is_some();
        drop(back);
        let seen = scanner.join().expect("no panic");
        assert!(taken || seen.is_some());
        if !taken {
            drop(owner.reclaim_from_owner(pfn).expect("not isolated any more"));
        }
        assert_eq!(in_use(&zone), 0);
        zone.check().expect("consistent");
    });
}

/// R-008, S-04: the last reference is put while another thread tries to get one.
#[test]
fn r008_last_put_against_get() {
    sync::model(|| {
        let (store, id, pfn) = store();
        let other = beside(&store, move |store| store.zone().get(pfn).is_some());
        store.chains.try_exclusive(id).expect("idle").destroy();
        other.join().expect("no panic");
        assert_eq!(in_use(store.zone()), 0);
        store.zone().check().expect("consistent");
    });
}

/// B10, S-32, L-03, R-453: the owner ends while its frame is being moved. The last reference
/// frees it.
#[test]
fn b10_the_end_of_an_owner_against_migrate() {
    sync::model(|| {
        let (store, id, pfn) = store();
        let zone = Arc::clone(store.chains.zone());
        let mover = beside(&zone, move |zone| migrate(zone, pfn));
        store.end(id);
        drop(store);
        mover.join().expect("no panic");
        assert_eq!(in_use(&zone), 0);
        zone.check().expect("consistent");
    });
}

/// S-05: a frame is initialised under its page lock while a scanner looks at it. The scanner
/// leaves it alone.
#[test]
fn s05_isolate_against_a_fresh_frame() {
    sync::model(|| {
        let (store, ..) = store();
        let zone = store.zone();
        let frame = take(zone).expect("room");
        let pfn = frame.pfn();
        let scanner = beside(&store, move |store| store.zone().isolate(pfn).is_some());
        drop(frame.try_lock().expect("only its owner locks it"));
        assert!(!scanner.join().expect("no panic"));
    });
}

/// R-008, S-04, S-25: an owner writes to a frame and releases it, a scanner has the last
/// reference, and the next owner writes to the frame. Each sees what the previous one did,
/// whichever thread frees the frame.
#[test]
fn r008_the_last_put_publishes_the_bytes() {
    sync::model(|| {
        let (store, id, pfn) = store();
        // All other frames are taken, so that the next allocation gets this one.
        take_all(store.zone()).into_iter().for_each(std::mem::forget);
        // Isolated beforehand, so that the model's few preemptions are left for what follows.
        let isolated = store.zone().isolate(pfn);
        let owner = beside(&store, move |store| {
            let mut held = store.chains.try_exclusive(id).expect("idle");
            held.pieces_mut(0..8).expect("inside").0.fill(2);
            held.destroy();
        });
        drop(isolated);
        write_to_a_fresh_frame(&store.chains);
        owner.join().expect("no panic");
        store.zone().check().expect("consistent");
    });
}

/// Takes a frame if there is one, writes to it and frees it.
fn write_to_a_fresh_frame(chains: &FrameChains) {
    let mut next = chains.create(ChainKind::Single, 2).expect("a number");
    if next.attach(0, Reclaim::NotAllowed).is_ok() {
        next.pieces_mut(0..8).expect("inside").0.fill(3);
    }
    next.destroy();
}

/// S-01, S-53: a frame is moved while a thread reads it, and the old frame is allocated again.
/// Either the reader has left by then, or the frame stays.
#[test]
fn s01_a_frame_is_not_used_again_under_its_reader() {
    sync::model(|| {
        let (store, id, pfn) = store();
        let zone = store.zone();
        // One frame is left as target, so that the next allocation gets the old frame.
        let spare = take(zone).expect("room");
        take_all(zone).into_iter().for_each(std::mem::forget);
        drop(spare);
        let shared = store.chains.share(id).expect("live");
        let mover = beside(&store, move |store| {
            migrate(store.zone(), pfn);
            write_to_a_fresh_frame(&store.chains);
        });
        assert_eq!(shared.pieces(0..8).expect("there").0, [7; 8]);
        drop(shared);
        mover.join().expect("no panic");
        store.zone().check().expect("consistent");
    });
}

/// Takes a target that does not count against the limit, as compaction does.
fn in_flight(zone: &Zone) -> Target<'_> {
    let mut taken = [Pfn(0)];
    let in_flight = zone.allocator().with_buddy(|buddy, tables| {
        buddy.take_migration_targets(tables, BlockIndex(u32::MAX), &mut taken)
    });
    let in_flight = in_flight.expect("not poisoned");
    assert_eq!(in_flight.frames(), 1);
    Target::from_cached(zone.allocator(), taken[0], in_flight)
}

struct Once<'z>(Option<Target<'z>>);

impl<'z> Targets<'z> for Once<'z> {
    fn next(&mut self, _: Pfn) -> Option<Target<'z>> {
        self.0.take()
    }
}

/// Allocates a frame in a zone at its limit, while `work` runs with the frame in use and one in
/// flight.
fn at_the_limit(work: impl Fn(&Zone, Isolated<'_>, Target<'_>) + Copy + Send + Sync + 'static) {
    sync::model(move || {
        let (store, _, pfn) = store();
        let zone = store.zone();
        zone.set_limit(Some(FrameCount(1)));
        let (isolated, target) = (zone.isolate(pfn).expect("idle"), in_flight(zone));
        let taker = beside(&store, |store| take(store.zone()).is_ok());
        work(zone, isolated, target);
        assert!(!taker.join().expect("no panic"), "a frame above the limit");
        assert_eq!(in_use(zone), 1);
        zone.check().expect("consistent");
    });
}

/// the new frame counts from the step in which the old one becomes free, so at no moment
/// does neither count.
#[test]
fn r108_the_limit_against_a_frame_that_moves() {
    at_the_limit(|zone, isolated, target| {
        let done =
            zone.migrate_pages(&mut vec![isolated], &mut Once(Some(target)), MigrateMode::Async);
        assert_eq!(done.migrated, 1);
    });
}

/// the same for a target that is dropped.
#[test]
fn r108_the_limit_against_a_dropped_target() {
    at_the_limit(|_, isolated, target| drop((isolated, target)));
}

/// the same for a captured frame whose content moves elsewhere.
#[test]
fn r108_the_limit_against_a_capture() {
    sync::model(|| {
        let (store, _, pfn) = store();
        let zone = store.zone();
        zone.set_limit(Some(FrameCount(2)));
        let mut capture = ContigCapture::begin(zone, pfn, 1).expect("room for one");
        let taker = beside(&store, |store| take(store.zone()).is_ok());
        capture.acquire(MigrateMode::Async, Budget::unlimited().start()).expect("idle");
        capture.keep();
        assert!(!taker.join().expect("no panic"), "a frame above the limit");
        assert_eq!(in_use(zone), 2);
        zone.allocator().put(pfn).expect("it is ours");
        zone.check().expect("consistent");
    });
}
