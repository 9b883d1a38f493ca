//! Poisoning: a pool whose tables contradict themselves returns errors, and no thread waits
//! forever.

use std::sync::Arc;

use sync::atomic::Ordering;

use crate::{AccessError, AllocError, Budget, Handle, MapMode, Pool, WriteError, Zpool};

fn pool() -> Arc<Pool> {
    super::pool(1024)
}

/// R-213, C-04, S-24: the record of a zspage is overwritten. Its next use detects this, and from
/// then on every call returns a typed error, also on other threads and for other objects.
#[test]
fn s24_a_damaged_record_stops_the_pool() {
    let pool = pool();
    let broken = pool.store(&[1; 1000]).expect("room");
    let other = pool.store(&[2; 3000]).expect("room");
    let chain = pool.handles.locate(broken).expect("live").chain();
    pool.zspages.chains.owner_words(chain)[0].store(0, Ordering::Relaxed);

    assert_eq!(pool.free(broken), Err(AccessError::Poisoned));
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(pool.free(other), Err(AccessError::Poisoned)));
        scope.spawn(|| assert_eq!(pool.store(&[3; 100]), Err(AllocError::Poisoned)));
        scope.spawn(|| assert_eq!(pool.compact(&Budget::unlimited()).objects_moved, 0));
    });
    assert!(pool.check().is_err());
}

/// R-213, C-04: only the magic number is wrong. Every build checks it.
#[test]
fn r213_a_wrong_magic_alone_stops_the_pool() {
    let pool = pool();
    let broken = pool.store(&[1; 1000]).expect("room");
    let chain = pool.handles.locate(broken).expect("live").chain();
    pool.zspages.chains.owner_words(chain)[0].fetch_xor(1, Ordering::Relaxed);
    assert_eq!(pool.free(broken), Err(AccessError::Poisoned), "the low four bits are the magic");
}

/// Returns a poisoned pool with one live object; another object's record is damaged.
fn poisoned() -> (Arc<Pool>, Handle) {
    let pool = pool();
    let broken = pool.store(&[1; 1000]).expect("room");
    let live = pool.store(&[2; 3000]).expect("room");
    let chain = pool.handles.locate(broken).expect("live").chain();
    pool.zspages.chains.owner_words(chain)[0].store(0, Ordering::Relaxed);
    assert_eq!(pool.free(broken), Err(AccessError::Poisoned));
    (pool, live)
}

/// C-04, S-24: reads of a live object are refused, too, because the tables that locate it cannot
/// be trusted.
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
    assert_eq!(pool.write(live, &[3; 2000]), Err(refused), "before the length is checked");
    assert_eq!(pool.store(&[3; 100]), Err(AllocError::Poisoned));
    assert_eq!(pool.malloc(100), Err(AllocError::Poisoned));
    assert_eq!(pool.free(live), Err(AccessError::Poisoned));
    let zpool: &dyn Zpool = &*pool;
    assert_eq!(zpool.malloc(100), Err(AllocError::Poisoned));
    assert_eq!(zpool.free(live), Err(AccessError::Poisoned));
    assert_eq!(pool.compact(&Budget::unlimited()).objects_moved, 0);
}

/// A mapping created before the poisoning is not written back.
#[test]
fn s24_a_mapping_of_a_poisoned_pool_is_refused() {
    let pool = pool();
    let broken = pool.store(&[1; 1000]).expect("room");
    let live = pool.store(&[2; 3000]).expect("room");
    let mut mapped = pool.map(live, MapMode::ReadWrite).expect("live");
    mapped.fill(9);
    let chain = pool.handles.locate(broken).expect("live").chain();
    pool.zspages.chains.owner_words(chain)[0].store(0, Ordering::Relaxed);
    assert_eq!(pool.free(broken), Err(AccessError::Poisoned));
    assert_eq!(mapped.unmap(), Err(WriteError::Access(AccessError::Poisoned)));
}
