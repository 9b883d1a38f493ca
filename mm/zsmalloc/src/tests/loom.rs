//! Pools under loom: interleavings of two threads with bounded preemptions, with the real code on
//! 64-byte frames. The models share a small pool, objects of half a frame, and a second thread.

mod migrate;
mod pool;

use std::sync::Arc;

use sync::thread::{self, JoinHandle};
use sys::Backing;

use super::{pool_in, zone};
use crate::{AccessError, Budget, Compaction, Handle, Pool, PoolConfig};

/// Length of half a frame: two objects to a zspage of one frame. Units: bytes.
const LEN: usize = 28;

/// Returns an empty pool of at most eight frames and four objects.
fn pool() -> Arc<Pool> {
    let config = PoolConfig { chain: 2, max_objects: Some(4), ..PoolConfig::default() };
    pool_in(&zone(8, Backing::AnonymousSmall), config)
}

/// Returns a pool with the objects 2 and 3 in two half-full zspages, so that one of them can be
/// moved.
fn sparse_pool() -> (Arc<Pool>, [Handle; 2]) {
    let pool = pool();
    let [first, second, third] = [1, 2, 3].map(|byte| pool.store(&object(byte)).expect("room"));
    pool.free(first).expect("live");
    (pool, [second, third])
}

/// Returns the bytes of an object.
fn object(byte: u8) -> [u8; LEN] {
    [byte; LEN]
}

/// Returns the bytes of the handle's object.
fn read(pool: &Pool, handle: Handle) -> Result<Vec<u8>, AccessError> {
    pool.read(handle).map(|object| object.to_vec())
}

/// Runs `work` on the same pool in the model's second thread.
fn beside<T: 'static>(pool: &Arc<Pool>, work: impl FnOnce(&Pool) -> T + 'static) -> JoinHandle<T> {
    let pool = Arc::clone(pool);
    thread::spawn(move || work(&pool))
}

/// Runs a compaction in the second thread.
fn compactor(pool: &Arc<Pool>) -> JoinHandle<Compaction> {
    beside(pool, |pool| pool.compact(&Budget::unlimited()))
}

/// Joins the second thread, then checks the pool, which is quiet now.
fn join<T>(other: JoinHandle<T>, pool: &Pool) -> T {
    let result = other.join().expect("no panic");
    pool.check().expect("consistent");
    result
}
