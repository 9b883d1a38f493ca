//! What the pool's models have in common: a small pool, objects of half a frame, and another thread at work on it.

use std::sync::Arc;

use frames::{FrameCount, Zone, ZoneConfig};
use sync::thread::{self, JoinHandle};
use sys::Backing;

use crate::{AccessError, Budget, Compaction, Handle, Pool, PoolConfig};

/// Half a frame: two to a zspage of one frame.
pub(crate) const LEN: usize = 28;

pub(crate) fn pool() -> Arc<Pool> {
    let backing = Backing::AnonymousSmall;
    let zone = Zone::new(ZoneConfig { capacity: FrameCount(8), backing, ..ZoneConfig::default() });
    let config = PoolConfig {
        chain: 2,
        max_objects: Some(4),
        backing: Backing::Heap,
        ..PoolConfig::default()
    };
    Pool::new(Arc::new(zone.expect("a small zone")), config).expect("a small pool")
}

/// A pool with the objects 2 and 3 in two zspages, each half full, so that one of the two can be moved.
pub(crate) fn sparse_pool() -> (Arc<Pool>, [Handle; 2]) {
    let pool = pool();
    let [first, second, third] = [1, 2, 3].map(|byte| pool.store(&object(byte)).expect("room"));
    pool.free(first).expect("live");
    (pool, [second, third])
}

pub(crate) fn object(byte: u8) -> [u8; LEN] {
    [byte; LEN]
}

pub(crate) fn read(pool: &Pool, handle: Handle) -> Result<Vec<u8>, AccessError> {
    pool.read(handle).map(|object| object.to_vec())
}

/// The model's other thread, at work on the same pool.
pub(crate) fn beside<T: 'static>(
    pool: &Arc<Pool>,
    work: impl FnOnce(&Pool) -> T + 'static,
) -> JoinHandle<T> {
    let pool = Arc::clone(pool);
    thread::spawn(move || work(&pool))
}

/// A compaction as the other thread.
pub(crate) fn compactor(pool: &Arc<Pool>) -> JoinHandle<Compaction> {
    beside(pool, |pool| pool.compact(&Budget::unlimited()))
}

/// Waits for the other thread; then no call is under way, and the pool must be whole.
pub(crate) fn join<T>(other: JoinHandle<T>, pool: &Pool) -> T {
    let result = other.join().expect("no panic");
    pool.check().expect("consistent");
    result
}
