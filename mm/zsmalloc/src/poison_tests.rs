//! What a pool does when its tables contradict themselves: it stops, visibly, and nobody waits for ever.

use std::sync::Arc;

use frames::{FrameCount, Zone, ZoneConfig};
use sync::atomic::Ordering;
use sys::Backing;

use crate::{
    AccessError, AllocError, Budget, Handle, MapMode, Pool, PoolConfig, WriteError, Zpool,
};

fn pool() -> Arc<Pool> {
    let zone = Zone::new(ZoneConfig {
        capacity: FrameCount(1024),
        backing: Backing::Heap,
        ..ZoneConfig::default()
    });
    let config = PoolConfig { backing: Backing::Heap, ..PoolConfig::default() };
    Pool::new(Arc::new(zone.expect("a small zone")), config).expect("a small pool")
}

/// R-213, C-04, S-24: the record of a zspage is overwritten. The next use of it finds out; from then on every call gets a typed error, also
/// from other threads and for other objects.
#[test]
fn s24_a_broken_record_stops_the_pool_and_nobody_spins() {
    let pool = pool();
    let broken = pool.store(&[1; 1000]).expect("room");
    let other = pool.store(&[2; 3000]).expect("room");
    let chain = pool.handles.locate(broken).expect("live").chain();
    pool.zspages.chains().owner_words(chain)[0].store(0, Ordering::Relaxed);

    assert_eq!(pool.free(broken), Err(AccessError::Poisoned));
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(pool.free(other), Err(AccessError::Poisoned)));
        scope.spawn(|| assert_eq!(pool.store(&[3; 100]), Err(AllocError::Poisoned)));
        scope.spawn(|| assert_eq!(pool.compact(&Budget::unlimited()).objects_moved, 0));
    });
    assert!(pool.check().is_err());
}

/// R-213, C-04: nothing but the magic number is wrong. It is looked at in every build.
#[test]
fn r213_a_record_whose_magic_alone_is_wrong_stops_the_pool() {
    let pool = pool();
    let broken = pool.store(&[1; 1000]).expect("room");
    let chain = pool.handles.locate(broken).expect("live").chain();
    pool.zspages.chains().owner_words(chain)[0].fetch_xor(1, Ordering::Relaxed);
    assert_eq!(pool.free(broken), Err(AccessError::Poisoned), "the low four bits are the magic");
}

/// A pool of one live object, out of order through another one.
fn poisoned() -> (Arc<Pool>, Handle) {
    let pool = pool();
    let broken = pool.store(&[1; 1000]).expect("room");
    let live = pool.store(&[2; 3000]).expect("room");
    let chain = pool.handles.locate(broken).expect("live").chain();
    pool.zspages.chains().owner_words(chain)[0].store(0, Ordering::Relaxed);
    assert_eq!(pool.free(broken), Err(AccessError::Poisoned));
    (pool, live)
}

/// C-04, S-24: a call that only looks at a live object is refused, too: the tables that say where it is cannot be trusted.
#[test]
fn s24_a_poisoned_pool_reads_nothing() {
    let (pool, live) = poisoned();
    assert_eq!(pool.read(live).map(|object| object.len()), Err(AccessError::Poisoned));
    assert_eq!(pool.len(live), Err(AccessError::Poisoned));
    for mode in [MapMode::ReadOnly, MapMode::WriteOnly, MapMode::ReadWrite] {
        assert_eq!(
            pool.map(live, mode).map(|mapped| mapped.len()),
            Err(AccessError::Poisoned),
            "{mode:?}"
        );
    }
}

#[test]
fn s24_a_poisoned_pool_changes_nothing() {
    let (pool, live) = poisoned();
    let refused = WriteError::Access(AccessError::Poisoned);
    assert_eq!(pool.write(live, &[3; 3000]), Err(refused), "in place");
    assert_eq!(pool.write(live, &[3; 2000]), Err(refused), "before its length is looked at");
    assert_eq!(pool.store(&[3; 100]), Err(AllocError::Poisoned));
    assert_eq!(pool.malloc(100), Err(AllocError::Poisoned));
    assert_eq!(pool.free(live), Err(AccessError::Poisoned));
    let zpool: &dyn Zpool = &*pool;
    assert_eq!(zpool.malloc(100), Err(AllocError::Poisoned));
    assert_eq!(zpool.free(live), Err(AccessError::Poisoned));
    assert_eq!(pool.compact(&Budget::unlimited()).objects_moved, 0);
}

/// A mapping made before writes nothing back afterwards.
#[test]
fn s24_a_mapping_of_a_poisoned_pool_is_refused() {
    let pool = pool();
    let broken = pool.store(&[1; 1000]).expect("room");
    let live = pool.store(&[2; 3000]).expect("room");
    let mut mapped = pool.map(live, MapMode::ReadWrite).expect("live");
    mapped.fill(9);
    let chain = pool.handles.locate(broken).expect("live").chain();
    pool.zspages.chains().owner_words(chain)[0].store(0, Ordering::Relaxed);
    assert_eq!(pool.free(broken), Err(AccessError::Poisoned));
    assert_eq!(mapped.unmap(), Err(WriteError::Access(AccessError::Poisoned)));
}
