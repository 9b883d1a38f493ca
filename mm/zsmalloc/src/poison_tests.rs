//! What a pool does when its tables contradict themselves: it stops, visibly, and nobody waits for ever.

use std::sync::Arc;

use frames::{FrameCount, Zone, ZoneConfig};
use sync::atomic::Ordering;
use sys::Backing;

use crate::{AccessError, AllocError, Budget, Pool, PoolConfig};

fn pool() -> Arc<Pool> {
    let zone = Zone::new(ZoneConfig { capacity: FrameCount(1024), backing: Backing::Heap, ..ZoneConfig::default() });
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
    let extent = pool.handles.locate(broken).expect("live").extent();
    pool.zspages.extents().owner_words(extent)[0].store(0, Ordering::Relaxed);

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
    let extent = pool.handles.locate(broken).expect("live").extent();
    pool.zspages.extents().owner_words(extent)[0].fetch_xor(1, Ordering::Relaxed);
    assert_eq!(pool.free(broken), Err(AccessError::Poisoned), "the low four bits are the magic");
}
