//! Migration: frames of zspages are isolated, moved and put back while objects are stored, read,
//! freed and compacted (R-400..R-417, R-450..R-453).

use std::sync::Arc;

use frames::{Backing, CompactRequest, Isolated, MigrateMode, Migration, Pfn, Zone};
use zsmalloc::{Budget, Handle, Pool, PoolConfig};

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;
use support::take;

fn pool() -> Arc<Pool> {
    support::pool(1024)
}

fn content(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number * 31 + at * 7) as u8).collect()
}

fn store(pool: &Pool, count: usize, len: usize) -> Vec<Handle> {
    (0..count).map(|number| pool.store(&content(number, len)).expect("room")).collect()
}

fn free<'a>(pool: &Pool, handles: impl IntoIterator<Item = &'a Handle>) {
    for &handle in handles {
        pool.free(handle).expect("live");
    }
}

fn free_every_second(pool: &Pool, handles: &[Handle]) {
    free(pool, handles.iter().skip(1).step_by(2));
}

fn assert_whole(pool: &Pool, handles: &[Handle], len: usize) {
    for (number, &handle) in handles.iter().enumerate() {
        assert_eq!(
            pool.read(handle).expect("live").to_vec(),
            content(number, len),
            "object {number}"
        );
    }
}

fn isolate_all(zone: &Zone) -> Vec<Isolated<'_>> {
    (0..zone.capacity().0 as u32).filter_map(|number| zone.isolate(Pfn(number))).collect()
}

fn migrate<'z>(zone: &'z Zone, batch: &mut Vec<Isolated<'z>>) -> Migration {
    zone.migrate_pages(batch, &mut |_| take(zone), MigrateMode::SyncLight)
}

/// Lengths: two whose objects cross frame boundaries, one huge, one small.
const LENGTHS: [usize; 4] = [1000, 3000, 4096, 40];

/// S-19, S-20, R-400, R-402, R-407, R-410: all frames of all zspages are isolated and moved at
/// once. Handles and bytes stay.
#[test]
fn s19_every_frame_of_a_zspage_can_be_moved() {
    for len in LENGTHS {
        let pool = pool();
        let zone = pool.zone();
        let handles = store(&pool, 40, len);
        let frames = pool.frames();
        let mut batch = isolate_all(zone);
        assert_eq!(batch.len() as u64, frames);
        // An isolated zspage continues to serve and stays on its list (S-17, S-18).
        let more = pool.store(&content(40, len)).expect("room");
        assert_whole(&pool, &handles, len);
        assert_eq!(
            migrate(zone, &mut batch),
            Migration { migrated: frames, ..Migration::default() }
        );
        assert_eq!(zone.stats().in_use.0, pool.frames(), "the old frames are free");
        assert_whole(&pool, &handles, len);
        assert_eq!(pool.read(more).expect("live").to_vec(), content(40, len));
        pool.check().expect("consistent");
        zone.check().expect("consistent");
    }
}

/// S-27, B4: a huge object has no header that names its handle. It can be moved and freed.
#[test]
fn s27_a_huge_object_moves_and_is_freed() {
    let pool = pool();
    let handle = pool.store(&content(1, 4096)).expect("room");
    let mut batch = isolate_all(pool.zone());
    assert_eq!(migrate(pool.zone(), &mut batch).migrated, 1);
    assert_eq!(pool.read(handle).expect("live").to_vec(), content(1, 4096));
    pool.check().expect("the record of a huge object names its handle");
    assert_eq!(pool.free(handle), Ok(4096));
    assert_eq!(pool.frames(), 0);
    pool.check().expect("consistent");
}

/// S-01, S-53, R-404, R-405: a reader keeps all frames of its zspage from moving, and no others.
/// Then they move.
#[test]
fn s53_a_reader_holds_its_zspage_and_nothing_else() {
    let pool = pool();
    let handles = store(&pool, 60, 3000);
    let zone = pool.zone();
    let object = pool.read(handles[1]).expect("live");
    let seen = object.to_vec();
    let total = pool.frames();
    let mut batch = isolate_all(zone);
    let done = migrate(zone, &mut batch);
    assert!(done.again > 0 && done.migrated > 0 && done.again + done.migrated == total, "{done:?}");
    assert_eq!(object.to_vec(), seen);
    let left = batch.len() as u64;
    drop(object);
    assert_eq!(migrate(zone, &mut batch).migrated, left, "the same isolated frames, tried again");
    assert_whole(&pool, &handles, 3000);
    pool.check().expect("consistent");
    zone.check().expect("consistent");
}

/// S-12, S-16, B9, R-403, R-413: the last object of a zspage is freed between isolation and
/// migration. The zspage is freed at once. Migration does not copy the frame and frees it.
#[test]
fn s16_a_zspage_emptied_while_isolated_is_freed() {
    let pool = pool();
    let zone = pool.zone();
    let handle = pool.store(&content(1, 4096)).expect("room");
    let (first, second) = (
        pool.store(&content(2, 3000)).expect("room"),
        pool.store(&content(3, 3000)).expect("room"),
    );
    let mut batch = isolate_all(zone);
    free(&pool, &[handle, first, second]);
    assert_eq!(pool.frames(), 0, "a free does not wait");
    pool.check().expect("consistent");
    let isolated = batch.len() as u64;
    assert_eq!(zone.stats().in_use.0, isolated, "the isolations' references");
    assert_eq!(migrate(zone, &mut batch), Migration { gone: isolated, ..Migration::default() });
    assert_eq!((zone.stats().in_use.0, zone.isolated()), (0, 0));
    zone.check().expect("consistent");
}

/// R-412, S-10: the same, with the frames put back instead of migrated.
#[test]
fn r412_a_zspage_emptied_while_isolated_is_put_back() {
    let pool = pool();
    let zone = pool.zone();
    let handles = store(&pool, 10, 3000);
    let batch = isolate_all(zone);
    free(&pool, &handles[..5]);
    drop(batch);
    assert_eq!(zone.stats().in_use.0, pool.frames());
    pool.check().expect("consistent");
    zone.check().expect("consistent");
    for (number, &handle) in handles.iter().enumerate().skip(5) {
        assert_eq!(pool.read(handle).expect("live").to_vec(), content(number, 3000));
    }
}

/// S-13, S-14, R-402, R-415: a zspage that only a reader keeps from being freed is not isolated.
#[test]
fn s14_a_zspage_pending_free_is_not_isolated() {
    let pool = pool();
    let zone = pool.zone();
    let handle = pool.store(&content(1, 4096)).expect("room");
    let object = pool.read(handle).expect("live");
    pool.free(handle).expect("live");
    assert_eq!(pool.frames(), 1, "the reader holds the zspage");
    assert!(isolate_all(zone).is_empty(), "about to be freed");
    assert_eq!(object.to_vec(), content(1, 4096));
    drop(object);
    assert_eq!((pool.frames(), zone.stats().in_use.0), (0, 0));
}

/// S-16, R-403: a zspage is isolated, then emptied while it is read. Migration finds the pending
/// mark and copies nothing, and the reader frees the zspage.
#[test]
fn s16_an_isolated_zspage_pending_free_is_not_copied() {
    let pool = pool();
    let zone = pool.zone();
    let handle = pool.store(&content(1, 4096)).expect("room");
    let mut batch = isolate_all(zone);
    let object = pool.read(handle).expect("live");
    pool.free(handle).expect("live");
    let done = migrate(zone, &mut batch);
    assert_eq!((done.migrated, done.again), (0, 1));
    drop(object);
    assert_eq!(pool.frames(), 0, "the reader freed it when it left");
    assert_eq!(migrate(zone, &mut batch), Migration { gone: 1, ..Migration::default() });
    assert_eq!(zone.stats().in_use.0, 0);
    zone.check().expect("consistent");
}

/// S-18, S-17, R-214: objects are compacted out of zspages whose frames are isolated, and nothing
/// is lost.
#[test]
fn s18_object_compaction_works_beside_isolation() {
    let pool = pool();
    let zone = pool.zone();
    let handles = store(&pool, 400, 1000);
    free_every_second(&pool, &handles);
    let mut batch = isolate_all(zone);
    let before = pool.frames();
    pool.compact(&Budget::unlimited());
    assert!(
        pool.frames() < before * 2 / 3,
        "frames that compaction empties are freed, isolated or not"
    );
    pool.check().expect("consistent");
    let done = migrate(zone, &mut batch);
    assert_eq!((done.migrated, done.gone), (pool.frames(), before - pool.frames()));
    for (number, &handle) in handles.iter().enumerate().step_by(2) {
        assert_eq!(pool.read(handle).expect("live").to_vec(), content(number, 1000));
    }
    pool.check().expect("consistent");
    zone.check().expect("consistent");
}

/// R-260, B7, S-25, S-46: all free slots of a moved frame can be used, and frames without objects
/// are not attached, so they do not move.
#[test]
fn r260_free_slots_of_a_moved_frame_are_used_again() {
    let pool = pool();
    let zone = pool.zone();
    let handles = store(&pool, 128, 1000);
    free_every_second(&pool, &handles);
    let mut batch = isolate_all(zone);
    migrate(zone, &mut batch);
    let frames = pool.frames();
    let again: Vec<_> =
        (0..64).map(|number| pool.store(&content(500 + number, 1000)).expect("room")).collect();
    assert!(pool.frames() <= frames + 1);
    for (number, &handle) in again.iter().enumerate() {
        assert_eq!(pool.read(handle).expect("live").to_vec(), content(500 + number, 1000));
    }
    for (number, &handle) in handles.iter().enumerate().step_by(2) {
        assert_eq!(pool.read(handle).expect("live").to_vec(), content(number, 1000));
    }
    pool.check().expect("consistent");
}

/// L-03, S-32, B10, R-451, R-453: a pool with objects is dropped while its frames are isolated.
/// Migration or putback frees them.
#[test]
fn l03_a_pool_is_dropped_with_isolated_frames() {
    for putback in [true, false] {
        let pool = pool();
        let zone = Arc::clone(pool.zone());
        store(&pool, 100, 1000);
        let mut batch = isolate_all(&zone);
        let isolated = batch.len() as u64;
        drop(pool);
        assert_eq!(zone.stats().in_use.0, isolated);
        if putback {
            batch.clear();
        } else {
            assert_eq!(
                migrate(&zone, &mut batch),
                Migration { gone: isolated, ..Migration::default() }
            );
        }
        assert_eq!((zone.stats().in_use.0, zone.isolated()), (0, 0));
        zone.check().expect("consistent");
    }
}

/// B3: many pools are created and dropped in one zone, and some creations fail;
/// nothing is left behind.
#[test]
fn r450_pools_come_and_go_and_leave_nothing() {
    let zone = support::zone(1024);
    let create = |chain| {
        let config = PoolConfig { chain, backing: Backing::Heap, ..PoolConfig::default() };
        Pool::new(Arc::clone(&zone), config)
    };
    for round in 0..300 {
        let Ok(pool) = create(if round % 3 == 0 { 17 } else { 16 }) else { continue };
        store(&pool, 50, 900);
        zone.compact(CompactRequest::default());
    }
    assert_eq!(zone.stats().in_use.0, 0);
    zone.check().expect("consistent");
    // If an owner number had been left behind, fewer than 255 would be free.
    let pools: Vec<_> = (0..256).map(|_| zone.reserve_owner()).collect();
    assert_eq!(pools.iter().filter(|owner| owner.is_ok()).count(), 255);
    assert!(create(PoolConfig::default().chain).is_err());
}

/// R-221, S-17, S-18: a zspage whose frames are isolated is emptied and filled across all
/// fullness groups. It is on the list of its group at each step, which `check` verifies, and
/// after putback.
#[test]
fn r221_groups_follow_use_while_frames_are_isolated() {
    for put_back in [true, false] {
        let pool = pool();
        let mut handles = store(&pool, 39, 400);
        let mut batch = isolate_all(pool.zone());
        assert!(!batch.is_empty());
        while let Some(handle) = handles.pop() {
            pool.free(handle).expect("live");
            pool.check().expect("on the list of its group");
            if handles.len() == 3 {
                break;
            }
        }
        handles.extend((3..30).map(|number| pool.store(&content(number, 400)).expect("room")));
        pool.check().expect("on the list of its group");
        match put_back {
            true => batch.clear(),
            false => assert!(migrate(pool.zone(), &mut batch).migrated > 0),
        }
        assert_whole(&pool, &handles, 400);
        pool.check().expect("on the list of its group");
        free(&pool, &handles);
        assert_eq!((pool.frames(), pool.zone().stats().in_use.0), (0, 0));
    }
}

/// S-13, S-30: a free returns while its own thread reads the zspage, has its frames
/// isolated, and runs a migration of one. If it waited for any of these, it would never return.
#[test]
fn s30_a_free_waits_for_nothing_its_caller_holds() {
    let pool = pool();
    let zone = pool.zone();
    let handles = store(&pool, 8, 1000);
    let mut batch = isolate_all(zone);
    let readers: Vec<_> = handles.iter().map(|&handle| pool.read(handle).expect("live")).collect();
    let mut left = handles.clone();
    // Called for a target during a migration, with the page lock of the frame held.
    let mut fresh = |_| {
        left.pop().map(|handle| pool.free(handle).expect("live"));
        take(zone)
    };
    let done = zone.migrate_pages(&mut batch, &mut fresh, MigrateMode::SyncLight);
    assert_eq!(done.migrated, 0, "readers hold the zspages");
    assert!(left.is_empty(), "each attempt asks for a target, and there are ten");
    for (number, reader) in readers.iter().enumerate() {
        assert_eq!(reader.to_vec(), content(number, 1000), "a reader's bytes stay unchanged");
    }
    drop((readers, batch));
    assert_eq!((pool.frames(), zone.stats().in_use.0), (0, 0), "the last holder frees everything");
    pool.check().expect("consistent");
}
