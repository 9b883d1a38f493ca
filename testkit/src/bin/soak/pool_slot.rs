//! A pool and its expected objects. It is destroyed and created again while other threads run.

use std::sync::{Arc, Mutex, RwLock};

use frames::Zone;
use zsmalloc::{Handle, Pool, PoolConfig};

use crate::content;

/// Number of threads that store, read, overwrite and free.
pub(crate) const WORKERS: usize = 2;

/// An object in a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object {
    pub(crate) handle: Handle,
    pub(crate) tag: u64,
    pub(crate) len: usize,
}

/// A pool and the objects of each worker in it.
#[derive(Debug)]
pub(crate) struct LivePool {
    pub(crate) pool: Arc<Pool>,
    pub(crate) objects: [Mutex<Vec<Object>>; WORKERS],
}

/// A place for a pool and its successors.
#[derive(Debug)]
pub(crate) struct PoolSlot {
    pub(crate) live: RwLock<LivePool>,
}

impl LivePool {
    fn new(zone: &Arc<Zone>) -> Self {
        let pool = Pool::new(Arc::clone(zone), PoolConfig::default())
            .expect("the address space suffices for a small pool");
        Self { pool, objects: std::array::from_fn(|_| Mutex::new(Vec::new())) }
    }

    fn each_object(&self, mut visit: impl FnMut(Object)) {
        for objects in &self.objects {
            objects.lock().expect("no thread panicked").iter().copied().for_each(&mut visit);
        }
    }

    /// Reads every object and compares every byte. Returns the number of objects.
    pub(crate) fn verify(&self) -> u64 {
        let mut count = 0;
        self.each_object(|object| {
            verify(&self.pool, object);
            count += 1;
        });
        count
    }
}

/// Reads an object and compares every byte.
pub(crate) fn verify(pool: &Pool, object: Object) {
    let read = pool.read(object.handle).unwrap_or_else(|error| panic!("{object:?}: {error}"));
    let (head, tail) = read.pieces();
    assert_eq!(head.len() + tail.len(), object.len, "{object:?}");
    assert!(content::is(object.tag, head, tail), "{object:?} holds other bytes");
}

impl PoolSlot {
    /// Creates a slot with an empty pool.
    pub(crate) fn new(zone: &Arc<Zone>) -> Self {
        Self { live: RwLock::new(LivePool::new(zone)) }
    }

    /// Verifies and checks the pool, destroys it with its objects, and creates another. Returns
    /// the number of objects verified.
    pub(crate) fn recreate(&self, zone: &Arc<Zone>, shrinking: &RwLock<()>) -> u64 {
        let mut live = self.live.write().expect("no thread panicked");
        let verified = live.verify();
        let quiet = shrinking.write().expect("no thread panicked");
        live.pool.check().expect("the pool is consistent");
        drop(quiet);
        *live = LivePool::new(zone);
        verified
    }

    /// Checks the pool and verifies its objects. Returns their number.
    pub(crate) fn verify_all(&self) -> u64 {
        let live = self.live.read().expect("no thread panicked");
        live.pool.check().expect("the pool is consistent");
        live.verify()
    }

    /// Frees all objects and checks that no frame is left.
    pub(crate) fn free_all(&self) {
        let live = self.live.read().expect("no thread panicked");
        live.each_object(|object| {
            assert_eq!(live.pool.free(object.handle), Ok(object.len));
        });
        assert_eq!(live.pool.frames(), 0);
    }
}
