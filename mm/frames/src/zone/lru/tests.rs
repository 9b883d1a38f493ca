//! The lists of a cache whose frames are moved, released and scanned.

mod callbacks;

use std::sync::Arc;

use super::*;
use crate::store::Store;
use crate::zones::{take, zone_with};
use crate::{
    ChainId, ChainKind, Isolated, MigrateMode, Migration, Movability, ReleaseStatus, Zone,
};

/// A cache of single frames, like the store's.
struct Cache(Arc<Store>);

impl Cache {
    fn new(movability: Movability) -> Self {
        let zone = zone_with(1024, |config| config.movability = movability);
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
        let mut fresh = |_| take(self.zone()).ok();
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
