use std::sync::{Arc, Mutex, Weak};

use super::*;
use crate::store::Store;
use crate::{
    Backing, ChainId, ChainKind, Committed, FrameChains, Isolated, LockedFrame, MigrateError,
    MigrateMode, MigrateType, Migration, Movability, MovableOps, Owner, Reclaim, ReleaseStatus,
    Target, Zone, ZoneConfig,
};

/// A cache of single frames, like the store's.
struct Cache(Arc<Store>);

impl Cache {
    fn new(movability: Movability) -> Self {
        let config = ZoneConfig {
            capacity: FrameCount(1024),
            backing: Backing::Heap,
            movability,
            ..ZoneConfig::default()
        };
        let zone = Arc::new(Zone::new(config).expect("a small zone"));
        Self(Store::new(zone.reserve_lru_owner().expect("a number"), 64))
    }

    fn lru(&self) -> Lru<'_> {
        self.0.lru()
    }

    fn zone(&self) -> &Zone {
        self.0.zone()
    }

    fn fill(&self) -> ChainId {
        let id = self.0.filled(ChainKind::Single, 1, 7);
        assert!(self.lru().add(self.frame(id)));
        id
    }

    fn frame(&self, id: ChainId) -> Pfn {
        self.0.chains.share(id).and_then(|shared| shared.frame(0)).expect("live")
    }

    fn end(&self, id: ChainId) {
        self.0.end(id);
    }

    fn isolate(&self, id: ChainId) -> Isolated<'_> {
        self.zone().isolate(self.frame(id)).expect("on a list")
    }

    fn migrate<'z>(&'z self, isolated: Isolated<'z>) -> (Migration, Vec<Isolated<'z>>) {
        let mut batch = vec![isolated];
        let mut fresh = |_| self.zone().alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok();
        (self.zone().migrate_pages(&mut batch, &mut fresh, MigrateMode::Async), batch)
    }

    /// Returns the lengths of the inactive and the active list, and the frames ever added.
    fn counts(&self) -> (u64, u64, u64) {
        let stats = self.lru().stats();
        (stats.inactive.0, stats.active.0, stats.added)
    }

    fn check(&self) {
        self.lru().check().expect("sound lists");
        self.zone().check().expect("a sound zone");
    }

    fn scan(&self) -> Option<ChainId> {
        self.lru().scan().map(ChainId::from_bits)
    }
}

/// S-37: isolation removes the frame from its list. Success adds the new frame to
/// the list, and the old one is never added again.
#[test]
fn r020_s37_a_move_adds_only_the_new_frame() {
    let cache = Cache::new(Movability::On);
    let ids: Vec<_> = (0..3).map(|_| cache.fill()).collect();
    assert_eq!(cache.counts(), (3, 0, 3));
    let (old, isolated) = (cache.frame(ids[1]), cache.isolate(ids[1]));
    assert_eq!(cache.counts(), (2, 0, 3), "R-020: off its list");
    let (done, left) = cache.migrate(isolated);
    assert_eq!((done, left.len()), (Migration { migrated: 1, ..Migration::default() }, 0));
    assert_eq!(cache.counts(), (3, 0, 4), "one frame added, the new one");
    assert_ne!(cache.frame(ids[1]), old);
    assert!(!cache.lru().add(cache.frame(ids[1])), "it is on a list");
    assert_eq!(cache.zone().stats().in_use, FrameCount(3));
    cache.check();
}

/// an accessed frame is still marked as accessed after the move.
#[test]
fn r022_the_new_frame_takes_the_old_ones_place() {
    let cache = Cache::new(Movability::On);
    let (first, second, third) = (cache.fill(), cache.fill(), cache.fill());
    cache.lru().mark_accessed(cache.frame(first));
    let (done, _) = cache.migrate(cache.isolate(first));
    assert_eq!(done.migrated, 1);
    cache.migrate(cache.isolate(second)).1.clear();
    // The accessed one gets its second chance before it is returned.
    assert_eq!((cache.scan(), cache.scan(), cache.counts().1), (Some(third), Some(second), 1));
    cache.check();
}

/// a frame that stays busy stays isolated, and is back on its list when it is put
/// back.
#[test]
fn r026_an_unmoved_frame_is_back_on_its_list() {
    let cache = Cache::new(Movability::On);
    let id = cache.fill();
    let reader = cache.0.chains.share(id).expect("live");
    let (done, left) = cache.migrate(cache.isolate(id));
    assert_eq!(
        (done.again, left.len(), cache.counts()),
        (1, 1, (0, 0, 1)),
        "on no list while it is isolated"
    );
    drop(left);
    assert_eq!(cache.counts(), (1, 0, 2));
    drop(reader);
    // Refused by the owner: pending work will destroy the chain.
    let reader = cache.0.chains.share(id).expect("live");
    assert!(cache.0.chains.mark_pending(id));
    assert!(cache.zone().isolate(reader.frame(0).expect("there")).is_none());
    assert_eq!(cache.counts(), (1, 0, 3));
    assert_eq!(reader.release(), ReleaseStatus::Pending);
    cache.end(id);
    assert_eq!(cache.counts(), (0, 0, 3));
    cache.check();
}

/// no target is left. Nothing moves, and the frame is back on its list.
#[test]
fn r027_without_a_target_a_frame_is_back_on_its_list() {
    let cache = Cache::new(Movability::On);
    let id = cache.fill();
    let mut batch = vec![cache.isolate(id)];
    let done = cache.zone().migrate_pages(&mut batch, &mut |_| None, MigrateMode::Async);
    assert!(done.out_of_frames);
    drop(batch);
    assert_eq!(cache.counts(), (1, 0, 2));
    cache.check();
}

/// released while isolated. The put that frees it does not touch the lists, and
/// nothing adds it again.
#[test]
fn r023_a_frame_released_while_isolated_is_on_no_list() {
    let cache = Cache::new(Movability::On);
    let (moved, put_back) = (cache.fill(), cache.fill());
    let (first, second) = (cache.isolate(moved), cache.isolate(put_back));
    cache.end(moved);
    cache.end(put_back);
    assert_eq!(cache.migrate(first).0, Migration { gone: 1, ..Migration::default() });
    drop(second);
    assert_eq!((cache.counts(), cache.zone().stats().in_use), ((0, 0, 2), FrameCount(0)));
    cache.check();
}

/// INV-LRU-1, S-37: an isolated frame is on no list, whichever thread adds it. Otherwise the old
/// frame would be freed on a list.
#[test]
fn s37_an_isolated_frame_is_not_added() {
    let cache = Cache::new(Movability::On);
    let (moved, put_back) = (cache.fill(), cache.fill());
    let (first, second) = (cache.isolate(moved), cache.isolate(put_back));
    assert!(!cache.lru().add(first.pfn()) && !cache.lru().add(second.pfn()));
    assert_eq!(cache.migrate(first).0.migrated, 1);
    drop(second);
    assert_eq!(cache.counts(), (2, 0, 4));
    cache.check();
    cache.end(moved);
    cache.end(put_back);
    cache.check();
}

/// R-034, S-43: a scan does not return a frame that is being moved.
#[test]
fn s43_a_scan_passes_isolated_frames_over() {
    let cache = Cache::new(Movability::On);
    let (oldest, next) = (cache.fill(), cache.fill());
    let isolated = cache.isolate(oldest);
    assert_eq!((cache.scan(), cache.scan()), (Some(next), Some(next)));
    // The end of a putback: the frame is on its list and still marked as isolated.
    let place = LruState::Inactive;
    cache.lru().put_back(isolated.pfn(), place);
    assert_eq!(
        (cache.scan(), cache.scan()),
        (Some(next), Some(next)),
        "a scan passes isolated frames over"
    );
    assert_eq!(cache.lru().isolate(isolated.pfn()), Some(place));
    cache.end(next);
    assert_eq!(cache.scan(), None);
    drop(isolated);
    assert_eq!(cache.scan(), Some(oldest));
    cache.check();
}

/// the counts are exact after each of a thousand moves: no batch waits to be drained.
#[test]
fn r035_counts_are_exact_after_each_of_many_moves() {
    let cache = Cache::new(Movability::On);
    let ids: Vec<_> = (0..8).map(|_| cache.fill()).collect();
    for round in 0..1000u64 {
        let id = ids[round as usize % ids.len()];
        assert_eq!(cache.migrate(cache.isolate(id)).0.migrated, 1);
        let (inactive, active, added) = cache.counts();
        assert_eq!((inactive + active, added), (8, 9 + round));
        cache.lru().mark_accessed(cache.frame(ids[round as usize * 3 % ids.len()]));
        assert!(cache.scan().is_some());
    }
    cache.check();
}

#[test]
fn accessed_frames_outlive_the_others() {
    let cache = Cache::new(Movability::On);
    let ids: Vec<_> = (0..6).map(|_| cache.fill()).collect();
    for id in [ids[0], ids[1]] {
        cache.lru().mark_accessed(cache.frame(id));
    }
    for expected in &ids[2..] {
        assert_eq!(cache.scan(), Some(*expected));
        cache.end(*expected);
    }
    assert_eq!(cache.lru().stats().activated, 2);
    // Nothing else is left, so the accessed ones are returned.
    for expected in &ids[..2] {
        assert_eq!(cache.scan(), Some(*expected));
        cache.end(*expected);
    }
    assert_eq!((cache.scan(), cache.counts()), (None, (0, 0, 6)));
    cache.check();
}

#[test]
fn the_only_frame_is_found_although_it_was_accessed() {
    let cache = Cache::new(Movability::On);
    let id = cache.fill();
    cache.lru().mark_accessed(cache.frame(id));
    assert_eq!(cache.scan(), Some(id));
    cache.check();
}

/// A scan ends although every frame is accessed again at once.
#[test]
fn a_scan_ends_when_everything_is_in_use() {
    let cache = Cache::new(Movability::On);
    let ids: Vec<_> = (0..64).map(|_| cache.fill()).collect();
    for _ in 0..100 {
        ids.iter().for_each(|&id| cache.lru().mark_accessed(cache.frame(id)));
        assert!(cache.scan().is_some());
    }
    assert_eq!(cache.counts().0 + cache.counts().1, 64);
    cache.check();
}

/// the lists work in a zone where nothing moves.
#[test]
fn r011_lists_work_where_nothing_moves() {
    let cache = Cache::new(Movability::Off);
    let (first, second) = (cache.fill(), cache.fill());
    cache.lru().mark_accessed(cache.frame(first));
    assert_eq!(cache.scan(), Some(second));
    assert!(cache.zone().isolate(cache.frame(first)).is_none());
    cache.end(first);
    cache.end(second);
    assert_eq!((cache.scan(), cache.counts()), (None, (0, 0, 2)));
    cache.check();
}

/// a page with a reference besides its owner's stays on its list until that reference is
/// put.
#[test]
fn r105_a_page_with_another_reference_stays() {
    let cache = Cache::new(Movability::On);
    let id = cache.fill();
    let pfn = cache.frame(id);
    let pin = cache.zone().get(pfn).expect("in use");
    assert!(cache.zone().isolate(pfn).is_none());
    assert_eq!((cache.counts(), cache.zone().isolated()), ((1, 0, 1), 0));
    drop(pin);
    drop(cache.isolate(id));
    cache.check();
}

/// How an owner of LRU frames moves one.
#[derive(Debug)]
enum Way {
    /// The default copy: the frames are in chains, which move them.
    Copy(Box<FrameChains>),
    /// A callback of its own: the owner keeps the frame's number itself.
    Callback(Owner),
}

/// An owner that records its callbacks.
#[derive(Debug)]
struct Traced {
    way: Way,
    calls: Mutex<Vec<&'static str>>,
}

impl Traced {
    fn new(way: Way) -> Arc<Self> {
        let traced = Arc::new(Self { way, calls: Mutex::default() });
        let ops: Weak<dyn MovableOps> = Arc::downgrade(&traced) as _;
        match &traced.way {
            Way::Copy(chains) => chains.publish(ops),
            Way::Callback(owner) => owner.publish(ops),
        }
        traced
    }

    fn note(&self, call: &'static str) {
        self.calls.lock().expect("no panic inside").push(call);
    }

    fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().expect("no panic inside").clone()
    }

    /// Isolates a frame and moves it; returns the new frame.
    fn moved(&self, zone: &Zone, old: Pfn) -> Pfn {
        let mut batch = vec![zone.isolate(old).expect("on its list")];
        let mut new = None;
        let mut fresh = |_| {
            let frame = zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).expect("room");
            new = Some(frame.pfn());
            Some(frame)
        };
        assert_eq!(zone.migrate_pages(&mut batch, &mut fresh, MigrateMode::Async).migrated, 1);
        assert!(zone.get(old).is_none(), "the old frame is free");
        new.expect("a target was asked for")
    }
}

impl MovableOps for Traced {
    fn isolate(&self, frame: &LockedFrame<'_>) -> bool {
        assert!(frame.allocator().tables().frames.state(frame.pfn()).is_locked());
        self.note("isolate");
        true
    }

    fn migrate<'z>(
        &self,
        from: &LockedFrame<'_>,
        to: Target<'z>,
        _: MigrateMode,
    ) -> Result<Committed, MigrateError<'z>> {
        let frames = &from.allocator().tables().frames;
        assert!(frames.state(from.pfn()).is_locked(), "the old frame");
        assert_eq!(
            frames.state(to.pfn()),
            State::FROZEN,
            "no other thread can reach the new frame"
        );
        match &self.way {
            Way::Copy(chains) => {
                self.note("copy");
                chains.migrate_frame(from, to).result
            }
            Way::Callback(_) => {
                self.note("callback");
                to.commit(from)
            }
        }
    }

    fn putback(&self, _: &LockedFrame<'_>) {
        self.note("putback");
    }
}

fn lru_owner() -> Owner {
    let config =
        ZoneConfig { capacity: FrameCount(1024), backing: Backing::Heap, ..ZoneConfig::default() };
    Arc::new(Zone::new(config).expect("a small zone")).reserve_lru_owner().expect("a number")
}

/// Returns the owner's only frame, movable and on its list.
fn movable_frame(owner: &Owner) -> Pfn {
    let frame = owner.zone().alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).expect("room");
    let pfn = owner.set_movable(frame, 41, 3).expect("no other reference");
    assert!(owner.lru().expect("registered with lists").add(pfn));
    pfn
}

/// frames of chains are copied by default, while neither frame can be reached by another
/// thread.
#[test]
fn r032_an_lru_frame_of_a_chain_is_copied() {
    let chains = FrameChains::new(lru_owner(), 4, crate::OwnerWords::default(), Backing::Heap)
        .expect("small tables");
    let mut held = chains.create(ChainKind::Single, 1).expect("room");
    held.attach(0, Reclaim::NotAllowed).expect("room");
    held.pieces_mut(0..crate::FRAME_SIZE).expect("attached").0.fill(0x5a);
    let id = held.id();
    assert_eq!(held.release(), ReleaseStatus::Clean);
    let traced = Traced::new(Way::Copy(Box::new(chains)));
    let Way::Copy(chains) = &traced.way else { unreachable!("made above") };
    let old = chains.share(id).and_then(|shared| shared.frame(0)).expect("live");
    assert!(chains.lru().expect("it has lists").add(old));
    let new = traced.moved(chains.zone(), old);
    assert_eq!(traced.calls(), ["isolate", "copy"]);
    let shared = chains.share(id).expect("live");
    assert_eq!(shared.frame(0), Some(new));
    assert!(
        shared.pieces(0..crate::FRAME_SIZE).expect("attached").0.iter().all(|&byte| byte == 0x5a)
    );
    drop(shared);
    assert_eq!(chains.lru().map(|lru| lru.stats().inactive), Some(FrameCount(1)));
    chains.try_exclusive(id).expect("idle").destroy();
    chains.zone().check().expect("a sound zone");
}

/// an owner with a callback moves the frame itself, while neither frame can be reached by
/// another thread.
#[test]
fn r032_an_lru_frame_is_moved_by_its_callback() {
    let owner = lru_owner();
    let (zone, old) = (Arc::clone(owner.zone()), movable_frame(&owner));
    let traced = Traced::new(Way::Callback(owner));
    let Way::Callback(owner) = &traced.way else { unreachable!("made above") };
    let new = traced.moved(&zone, old);
    assert_eq!(traced.calls(), ["isolate", "callback"]);
    assert_eq!(
        zone.tables().frames.private(new).map(|(name, _)| name),
        Some(41),
        "the old frame's private value"
    );
    assert_eq!(owner.lru().map(|lru| lru.stats().inactive), Some(FrameCount(1)));
    owner.release(new);
    zone.check().expect("a sound zone");
}

/// a frame of an owner without callbacks stays on its list.
#[test]
fn r032_an_lru_frame_without_callbacks_stays() {
    let owner = lru_owner();
    let pfn = movable_frame(&owner);
    assert!(owner.zone().isolate(pfn).is_none());
    assert_eq!(owner.lru().map(|lru| lru.stats().inactive), Some(FrameCount(1)));
    assert_eq!((owner.zone().isolated(), owner.zone().stats().in_use), (0, FrameCount(1)));
    owner.release(pfn);
    owner.zone().check().expect("a sound zone");
}
