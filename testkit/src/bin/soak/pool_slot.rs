//! One pool in the zone, with what is known about its objects: it is destroyed and made again while the others go on.

use std::sync::{Arc, Mutex, RwLock};

use frames::Zone;
use zsmalloc::{Handle, Pool, PoolConfig};

use crate::{WORKERS, content};

/// An object somebody stored.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    pub handle: Handle,
    pub tag: u64,
    pub len: usize,
}

/// A pool and the objects of each worker.
#[derive(Debug)]
pub struct LivePool {
    pub pool: Arc<Pool>,
    pub objects: [Mutex<Vec<Object>>; WORKERS],
}

/// Where a pool lives, and after its end the next one.
#[derive(Debug)]
pub struct PoolSlot {
    pub live: RwLock<LivePool>,
}

impl LivePool {
    fn new(zone: &Arc<Zone>) -> Self {
        let pool = Pool::new(Arc::clone(zone), PoolConfig::default())
            .expect("address space for a small pool");
        Self { pool, objects: std::array::from_fn(|_| Mutex::new(Vec::new())) }
    }

    fn each_object(&self, mut visit: impl FnMut(Object)) {
        for objects in &self.objects {
            objects.lock().expect("nobody panicked").iter().copied().for_each(&mut visit);
        }
    }

    /// Reads every object and compares every byte. Returns how many there were.
    pub fn verify(&self) -> u64 {
        let mut count = 0;
        self.each_object(|object| {
            verify(&self.pool, object);
            count += 1;
        });
        count
    }
}

/// Reads one object and compares every byte.
pub fn verify(pool: &Pool, object: Object) {
    let read = pool.read(object.handle).unwrap_or_else(|error| panic!("{object:?}: {error}"));
    let (head, tail) = read.pieces();
    assert_eq!(head.len() + tail.len(), object.len, "{object:?}");
    assert!(content::is(object.tag, head, tail), "{object:?} holds other bytes");
}

impl PoolSlot {
    pub fn new(zone: &Arc<Zone>) -> Self {
        Self { live: RwLock::new(LivePool::new(zone)) }
    }

    /// Ends the pool, with all its objects in it, after they were verified; and begins another.
    pub fn recreate(&self, zone: &Arc<Zone>, shrinking: &RwLock<()>) -> u64 {
        let mut live = self.live.write().expect("nobody panicked");
        let verified = live.verify();
        let quiet = shrinking.write().expect("nobody panicked");
        live.pool.check().expect("the pool is consistent");
        drop(quiet);
        *live = LivePool::new(zone);
        verified
    }

    pub fn verify_all(&self) -> u64 {
        let live = self.live.read().expect("nobody panicked");
        live.pool.check().expect("the pool is consistent");
        live.verify()
    }

    pub fn free_all(&self) {
        let live = self.live.read().expect("nobody panicked");
        live.each_object(|object| {
            assert_eq!(live.pool.free(object.handle), Ok(object.len));
        });
        assert_eq!(live.pool.frames(), 0);
    }
}
