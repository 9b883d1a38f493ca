//! Shared parts of the pool's loom models: a small pool, objects of half a frame, and a second
//! thread.

use std::sync::Arc;

use frames::{FrameCount, Zone, ZoneConfig};
use sync::thread::{self, JoinHandle};
use sys::Backing;

use crate::{AccessError, Budget, Compaction, Handle, Pool, PoolConfig};

/// Length of half a frame: two objects to a zspage of one frame. Units: bytes.
pub(crate) const LEN: usize = 28;

/// Returns an empty pool of at most eight frames and four objects.
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

/// Returns a pool with the objects 2 and 3 in two half-full zspages, so that one of them can be
/// moved.
pub(crate) fn sparse_pool() -> (Arc<Pool>, [Handle; 2]) {
    let pool = pool();
    let [first, second, third] = [1, 2, 3].map(|byte| pool.store(&object(byte)).expect("room"));
    pool.free(first).expect("live");
    (pool, [second, third])
}

/// Returns the bytes of an object.
pub(crate) fn object(byte: u8) -> [u8; LEN] {
    [byte; LEN]
}

/// Returns the bytes of the handle's object.
pub(crate) fn read(pool: &Pool, handle: Handle) -> Result<Vec<u8>, AccessError> {
    pool.read(handle).map(|object| object.to_vec())
}

/// Runs `work` on the same pool in the model's second thread.
pub(crate) fn beside<T: 'static>(
    pool: &Arc<Pool>,
    work: impl FnOnce(&Pool) -> T + 'static,
) -> JoinHandle<T> {
    let pool = Arc::clone(pool);
    thread::spawn(move || work(&pool))
}

/// Runs a compaction in the second thread.
pub(crate) fn compactor(pool: &Arc<Pool>) -> JoinHandle<Compaction> {
    beside(pool, |pool| pool.compact(&Budget::unlimited()))
}

/// Joins the second thread, then checks the pool, which is quiet now.
pub(crate) fn join<T>(other: JoinHandle<T>, pool: &Pool) -> T {
    let result = other.join().expect("no panic");
    pool.check().expect("consistent");
    result
}
