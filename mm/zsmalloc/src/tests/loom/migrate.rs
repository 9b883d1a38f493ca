//! Migration of a pool's frames.

use std::sync::Arc;

use frames::{MigrateMode, MigrateType, Migration, Pfn, Reclaim, Zone};
use sync::thread;

use super::{beside, join, object, pool, read, sparse_pool};
use crate::{AccessError, Budget, Handle, Pool};

/// Tries to move the zone's first frame, which is the pool's only one.
fn migrate(zone: &Zone) -> Option<Migration> {
    migrate_frame(zone, Pfn(0))
}

/// Tries to move a frame.
fn migrate_frame(zone: &Zone, pfn: Pfn) -> Option<Migration> {
    let mut target = zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok();
    let mut batch = vec![zone.isolate(pfn)?];
    Some(zone.migrate_pages(&mut batch, &mut |_| target.take(), MigrateMode::Async))
}

/// Runs a migration on a second thread beside `work`, on a pool with one object. Then checks the
/// pool and the zone.
fn beside_migration(work: impl Fn(&Arc<Pool>, Handle) + Send + Sync + 'static) {
    sync::model(move || {
        let pool = pool();
        let handle = pool.store(&object(1)).expect("room");
        let mover = beside(&pool, |pool| migrate(pool.zone()));
        work(&pool, handle);
        join(mover, &pool);
        pool.zone().check().expect("consistent");
        assert_eq!(pool.zone().stats().in_use.0, pool.frames());
        if pool.stats().objects == 0 {
            assert_eq!(pool.frames(), 0, "the deferred free is done");
        }
    });
}

/// S-01, S-53, R-405: a read races with the migration of its object's frame.
#[test]
fn s01_read_against_migrate() {
    beside_migration(|pool, handle| {
        assert_eq!(read(pool, handle), Ok(object(1).to_vec()));
        pool.free(handle).expect("live");
    });
}

/// S-12, S-16, B9, B13a, R-413: the last free of a zspage races with isolation and migration of
/// its frame. The frame is freed in the end.
#[test]
fn s12_free_against_migrate() {
    beside_migration(|pool, handle| {
        pool.free(handle).expect("live");
        assert_eq!(read(pool, handle), Err(AccessError::Stale));
    });
}

/// S-25, R-281, R-260: an object is stored into a frame that is migrating, or into another zspage.
#[test]
fn s25_store_against_migrate() {
    beside_migration(|pool, handle| {
        let second = pool.store(&object(2)).expect("room");
        assert_eq!(
            (read(pool, handle), read(pool, second)),
            (Ok(object(1).to_vec()), Ok(object(2).to_vec()))
        );
    });
}

/// S-05, R-281: isolation and migration race with the allocation of a zspage's second frame.
#[test]
fn r281_a_scanner_against_a_growing_zspage() {
    sync::model(|| {
        // Three objects of this length fill two frames. The second object begins in the first
        // frame and ends in the second.
        let long = |byte: u8| [byte; 36];
        let pool = pool();
        let first = pool.store(&long(1)).expect("room");
        assert_eq!(pool.frames(), 1);
        let mover = beside(&pool, |pool| migrate_frame(pool.zone(), Pfn(1)));
        let second = pool.store(&long(2)).expect("room");
        assert_eq!(
            (read(&pool, first), read(&pool, second)),
            (Ok(long(1).to_vec()), Ok(long(2).to_vec()))
        );
        join(mover, &pool);
        assert_eq!((pool.frames(), pool.zone().stats().in_use.0), (2, 2));
        assert_eq!(
            (read(&pool, first), read(&pool, second)),
            (Ok(long(1).to_vec()), Ok(long(2).to_vec()))
        );
        pool.zone().check().expect("consistent");
    });
}

/// S-50, S-51: an overwrite, in place or out of place, races with the migration of the frame.
#[test]
fn s50_write_against_migrate() {
    beside_migration(|pool, handle| {
        pool.write(handle, &object(2)).expect("in place or out of place");
        assert_eq!(read(pool, handle), Ok(object(2).to_vec()));
    });
}

/// S-13, S-14, R-414: a reader delays a free, and the last holder does it, with migration as a
/// third holder.
#[test]
fn s14_deferred_free_against_migrate() {
    beside_migration(|pool, handle| {
        let held = pool.read(handle).expect("live");
        pool.free(handle).expect("live");
        assert_eq!(held.to_vec(), object(1));
        drop(held);
    });
}

/// S-18: compaction moves objects out of the zspage whose frame is migrating.
#[test]
fn s18_compact_against_migrate() {
    sync::model(|| {
        let (pool, handles) = sparse_pool();
        let mover = beside(&pool, |pool| migrate(pool.zone()));
        pool.compact(&Budget::unlimited());
        join(mover, &pool);
        for (handle, byte) in handles.into_iter().zip(2..) {
            assert_eq!(read(&pool, handle), Ok(object(byte).to_vec()));
        }
        pool.zone().check().expect("consistent");
    });
}

/// B10, S-32, L-03, R-453: the pool is dropped while its frame is isolated, migrated or put back.
#[test]
fn b10_drop_of_a_pool_against_migrate() {
    sync::model(|| {
        let pool = pool();
        let zone = Arc::clone(pool.zone());
        pool.store(&object(1)).expect("room");
        let mover = {
            let zone = Arc::clone(&zone);
            thread::spawn(move || migrate(&zone))
        };
        drop(pool);
        mover.join().expect("no panic");
        assert_eq!((zone.stats().in_use.0, zone.isolated()), (0, 0));
        zone.check().expect("consistent");
    });
}
