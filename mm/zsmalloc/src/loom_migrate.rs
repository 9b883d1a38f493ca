//! The pool against migration under loom: every interleaving of two threads, the real code on 64-byte frames.

use std::sync::Arc;

use frames::{FrameCount, MigrateType, Migration, Mode, Pfn, Reclaim, Zone, ZoneConfig};
use sync::thread;
use sys::Backing;

use crate::{AccessError, Budget, Handle, Pool, PoolConfig};

/// Half a frame: two to a zspage of one frame.
const LEN: usize = 28;

fn pool() -> Arc<Pool> {
    let zone = Zone::new(ZoneConfig { capacity: FrameCount(8), backing: Backing::Heap, ..ZoneConfig::default() });
    let config = PoolConfig { chain: 2, max_objects: Some(4), backing: Backing::Heap, ..PoolConfig::default() };
    Pool::new(Arc::new(zone.expect("a small zone")), config).expect("a small pool")
}

fn read(pool: &Pool, handle: Handle) -> Result<Vec<u8>, AccessError> {
    pool.read(handle).map(|object| object.to_vec())
}

/// One try to move the zone's first frame, which is the pool's only one.
fn migrate(zone: &Zone) -> Option<Migration> {
    let mut target = zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok();
    let mut batch = vec![zone.isolate(Pfn(0))?];
    Some(zone.migrate_pages(&mut batch, &mut |_| target.take(), Mode::Async))
}

/// Migration on a thread of its own beside `work`, on a pool with one object; then the pool is whole and so is the zone.
fn beside_migration(work: impl Fn(&Arc<Pool>, Handle) + Send + Sync + 'static) {
    sync::model(move || {
        let pool = pool();
        let handle = pool.store(&[1; LEN]).expect("room");
        let mover = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || migrate(pool.zone()))
        };
        work(&pool, handle);
        mover.join().expect("no panic");
        pool.check().expect("consistent");
        pool.zone().check().expect("consistent");
        assert_eq!(pool.zone().stats().in_use.0, pool.frames());
        if pool.stats().objects == 0 {
            assert_eq!(pool.frames(), 0, "what was put off is done");
        }
    });
}

/// S-01, S-53, R-405: a read meets the move of its object's frame.
#[test]
fn s01_read_against_migrate() {
    beside_migration(|pool, handle| {
        assert_eq!(read(pool, handle), Ok(vec![1; LEN]));
        pool.free(handle).expect("live");
    });
}

/// S-12, S-16, B9, B13a, R-413: the last free of a zspage meets isolation and move of its frame. Nothing is stranded.
#[test]
fn s12_free_against_migrate() {
    beside_migration(|pool, handle| {
        pool.free(handle).expect("live");
        assert_eq!(read(pool, handle), Err(AccessError::Stale));
    });
}

/// S-25, R-281, R-260: an object is stored into a frame that is moving, or in a zspage beside it.
#[test]
fn s25_store_against_migrate() {
    beside_migration(|pool, handle| {
        let second = pool.store(&[2; LEN]).expect("room");
        assert_eq!((read(pool, handle), read(pool, second)), (Ok(vec![1; LEN]), Ok(vec![2; LEN])));
    });
}

/// S-50, S-51: a handle is pointed elsewhere while the frame moves: an overwrite in place or beside.
#[test]
fn s50_write_against_migrate() {
    beside_migration(|pool, handle| {
        pool.write(handle, &[2; LEN]).expect("in place or beside");
        assert_eq!(read(pool, handle), Ok(vec![2; LEN]));
    });
}

/// S-13, S-14, R-414: a free is put off by a reader, and who leaves last does it, with migration as a third.
#[test]
fn s14_deferred_free_against_migrate() {
    beside_migration(|pool, handle| {
        let object = pool.read(handle).expect("live");
        pool.free(handle).expect("live");
        assert_eq!(object.to_vec(), [1; LEN]);
        drop(object);
    });
}

/// S-18: objects are moved out of the zspage whose frame is moving.
#[test]
fn s18_compact_against_migrate() {
    sync::model(|| {
        let pool = pool();
        let handles = [1, 2, 3].map(|byte| pool.store(&[byte; LEN]).expect("room"));
        pool.free(handles[0]).expect("live");
        let mover = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || migrate(pool.zone()))
        };
        pool.compact(&Budget::unlimited());
        mover.join().expect("no panic");
        for (handle, byte) in handles.into_iter().zip(1..).skip(1) {
            assert_eq!(read(&pool, handle), Ok(vec![byte; LEN]));
        }
        pool.check().expect("consistent");
        pool.zone().check().expect("consistent");
    });
}

/// B10, S-32, L-03, R-453: the pool ends while its frame is isolated, moved or put back.
#[test]
fn b10_the_end_of_a_pool_against_migrate() {
    sync::model(|| {
        let pool = pool();
        let zone = Arc::clone(pool.zone());
        pool.store(&[1; LEN]).expect("room");
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
