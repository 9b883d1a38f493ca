//! The zpool interface: a second compressed cache could use it.

use std::sync::Arc;

use frames::{FrameCount, Zone};
use zsmalloc::{
    AccessError, AllocError, Budget, EvictUnsupported, MapMode, Pool, PoolConfig, Zpool,
};

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;
use support::pool_in;

fn pools() -> (Arc<Zone>, [Arc<Pool>; 2]) {
    let zone = support::zone(2048);
    let both = [(); 2].map(|()| pool_in(&zone, PoolConfig::default()));
    (zone, both)
}

fn content(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number * 31 + at) as u8).collect()
}

/// two caches use two pools in one zone. Objects and frames of both move, and each
/// finds its own again.
#[test]
fn r455_two_caches_share_a_zone_under_migration() {
    let (zone, pools) = pools();
    let caches: [Arc<dyn Zpool>; 2] = [Arc::clone(&pools[0]) as _, Arc::clone(&pools[1]) as _];
    let mut stored = Vec::new();
    for number in 0..3000 {
        let cache = &caches[number % 2];
        let len = 300 + number % 1500;
        let handle = cache.malloc(len).expect("room");
        let mut mapped = cache.map(handle, MapMode::WriteOnly).expect("live");
        mapped.copy_from_slice(&content(number, len));
        mapped.unmap().expect("no thread reads it");
        stored.push((number, len, handle));
    }
    stored.retain(|&(number, len, handle)| {
        let stays = number % 5 < 2;
        assert!(stays || caches[number % 2].free(handle) == Ok(len));
        stays
    });
    for pool in &pools {
        assert!(pool.compact(&Budget::unlimited()).objects_moved > 0);
    }
    let moved = zone.compact(frames::CompactRequest::default()).frames_moved;
    assert!(moved > 0);
    for &(number, len, handle) in &stored {
        let mapped = caches[number % 2].map(handle, MapMode::ReadOnly).expect("live");
        assert_eq!(&*mapped, &content(number, len)[..]);
    }
    let total: u64 = caches.iter().map(|cache| cache.total_size()).sum();
    assert_eq!(total, zone.stats().in_use.bytes());
    zone.check().expect("consistent");
    pools.iter().for_each(|pool| pool.check().expect("consistent"));
}

#[test]
fn r455_unsupported_zpool_calls_are_typed_errors() {
    let (_, [pool, _]) = pools();
    let cache: Arc<dyn Zpool> = pool;
    assert_eq!(cache.kind(), "zsmalloc");
    assert_eq!(cache.evict(FrameCount(1)), Err(EvictUnsupported));
    assert_eq!(cache.malloc(0), Err(AllocError::Size { len: 0 }));
    let handle = cache.malloc(4096).expect("room");
    assert_eq!((cache.total_size(), cache.free(handle)), (4096, Ok(4096)));
    assert_eq!(cache.free(handle), Err(AccessError::Stale));
    assert_eq!(cache.map(handle, MapMode::ReadWrite).err(), Some(AccessError::Stale));
    assert_eq!(cache.total_size(), 0);
}
