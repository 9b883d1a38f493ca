//! Memory failures while other threads read, write, compact and migrate: every object is whole,
//! or a typed error. A check before the copy is not enough, since memory can fail after it.

#![cfg(not(any(loom, shuttle, miri)))]
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use fastrand::Rng;
use frames::{CompactRequest, FrameCount, Pfn, Zone, ZoneConfig};
use sys::memory_failure::{Injection, catch_memory_failures};
use zsmalloc::{AccessError, Budget, Handle, MapMode, Pool, PoolConfig};

const FRAMES: u64 = 16 << 10;
/// Number of frames that fail, less than the zone has.
const FAILURES: usize = 1500;
/// The same for the shortest race: on a busy machine few failures fall into a copy.
const FAILURES_OF_COPIES: usize = 3000;
/// Number of objects of each worker.
const OBJECTS: usize = 24;

/// Returns bytes without zeros: the page that replaces a failed one has zeros.
fn content(tag: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| tag.wrapping_mul(31).wrapping_add(at as u8) | 1).collect()
}

/// Reads an object by `map`, or by `read` with a check for failures after the copy.
fn read(pool: &Pool, handle: Handle, rng: &mut Rng) -> Result<Vec<u8>, AccessError> {
    if rng.bool() {
        return pool.map(handle, MapMode::ReadOnly).map(|mapped| mapped.to_vec());
    }
    let object = pool.read(handle)?;
    let bytes = object.to_vec();
    object.intact().map(|()| bytes)
}

/// An object and what was stored in it.
struct Object {
    handle: Handle,
    tag: u8,
    len: usize,
}

impl Object {
    fn store(pool: &Pool, rng: &mut Rng) -> Self {
        let (tag, len) = (rng.u8(..), [700, 1500, 2500, 3100, 4096][rng.usize(..5)]);
        Self { handle: pool.store(&content(tag, len)).expect("room"), tag, len }
    }

    /// Reads and checks the object. Returns `false` when its memory has failed.
    fn is_whole(&self, pool: &Pool, rng: &mut Rng) -> bool {
        match read(pool, self.handle, rng) {
            Ok(bytes) => {
                assert!(
                    bytes == content(self.tag, self.len),
                    "an object has other bytes than those stored"
                );
                true
            }
            Err(error) => {
                assert_eq!(error, AccessError::MemoryFailure, "an object in failed memory");
                false
            }
        }
    }
}

/// Reads, writes and replaces objects until the end. Returns the objects that are left, and how
/// many were lost.
fn work(pool: &Pool, is_over: &AtomicBool, seed: u64) -> (Vec<Object>, usize) {
    let mut rng = Rng::with_seed(seed);
    let mut objects: Vec<_> = (0..OBJECTS).map(|_| Object::store(pool, &mut rng)).collect();
    let mut lost = 0;
    // Relaxed: only a stop signal.
    while !is_over.load(Relaxed) {
        let object = &mut objects[rng.usize(..OBJECTS)];
        if !object.is_whole(pool, &mut rng) {
            lost += 1;
            object.tag = object.tag.wrapping_add(1);
            pool.write(object.handle, &content(object.tag, object.len)).expect("room elsewhere");
        } else if rng.usize(..3) == 0 {
            assert_eq!(pool.free(object.handle), Ok(object.len));
            *object = Object::store(pool, &mut rng);
        }
    }
    (objects, lost)
}

/// Makes random frames fail, among the lowest in use that have not failed: low frames are used
/// first. Ends early when the other threads have ended.
fn fail_frames(zone: &Zone, most: usize, is_over: &AtomicBool) {
    const LOOK: u32 = 512;
    let (mut rng, mut low, mut failures) = (Rng::with_seed(99), 0, 0);
    // Relaxed: only a stop signal.
    while failures < most && !is_over.load(Relaxed) {
        while zone.has_failed(Pfn(low)) {
            low += 1;
        }
        let is_target = |&pfn: &Pfn| !zone.has_failed(pfn) && zone.get(pfn).is_some();
        let in_use: Vec<_> =
            (low..(low + LOOK).min(FRAMES as u32)).map(Pfn).filter(is_target).collect();
        if in_use.is_empty() {
            thread::yield_now();
            continue;
        }
        let pfn = in_use[rng.usize(..in_use.len())];
        zone.inject_memory_failure(pfn, Injection::ActionRequired).expect("the signal is sent");
        failures += 1;
    }
}

fn pool() -> (Arc<Zone>, Arc<Pool>) {
    catch_memory_failures().expect("a handler");
    let zone = Zone::new(ZoneConfig { capacity: FrameCount(FRAMES), ..ZoneConfig::default() });
    let zone = Arc::new(zone.expect("a small zone"));
    let pool = Pool::new(Arc::clone(&zone), PoolConfig::default()).expect("a small pool");
    (zone, pool)
}

/// Sets the stop signal when dropped, also after a failed assertion.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Repeats `work` while frames fail.
fn while_memory_fails(zone: &Zone, most: usize, mut work: impl FnMut()) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = Over(&is_over);
        let injector = scope.spawn(|| fail_frames(zone, most, &is_over));
        while !injector.is_finished() {
            work();
        }
    });
}

/// a memory failure during a reader's copy is detected.
#[test]
fn r025_a_copy_is_whole_while_memory_fails() {
    let (zone, pool) = pool();
    let bytes = content(1, 4096);
    let handle = pool.store(&bytes).expect("room");
    let (mut whole, mut lost) = (0, 0);
    while_memory_fails(&zone, FAILURES_OF_COPIES, || match pool.map(handle, MapMode::ReadOnly) {
        Ok(mapped) => {
            assert!(mapped[..] == bytes[..], "a copy has other bytes than those stored");
            whole += 1;
        }
        Err(error) => {
            assert_eq!(error, AccessError::MemoryFailure);
            lost += 1;
            pool.write(handle, &bytes).expect("room elsewhere");
        }
    });
    assert!(whole > 0 && lost > 0, "{whole} copies, {lost} lost");
}

/// an object that compaction moves out of failing memory is whole, or stays where it is.
#[test]
fn r025_a_moved_object_is_whole_while_memory_fails() {
    let (zone, pool) = pool();
    let bytes = content(2, 1500);
    let mut moved = 0;
    while_memory_fails(&zone, FAILURES, || {
        let stored: Vec<_> = (0..32).map(|_| pool.store(&bytes).expect("room")).collect();
        let mut handles = Vec::new();
        for (at, handle) in stored.into_iter().enumerate() {
            if at % 3 == 0 {
                handles.push(handle);
            } else {
                assert_eq!(pool.free(handle), Ok(bytes.len()));
            }
        }
        moved += pool.compact(&Budget::unlimited()).objects_moved;
        for handle in handles {
            match pool.map(handle, MapMode::ReadOnly) {
                Ok(mapped) => {
                    assert!(mapped[..] == bytes[..], "a moved object has other bytes")
                }
                Err(error) => {
                    assert_eq!(error, AccessError::MemoryFailure, "an object in failed memory")
                }
            }
            assert_eq!(pool.free(handle), Ok(bytes.len()));
        }
    });
    assert!(moved > 0);
}

/// whatever memory fails at any moment, no object has other bytes than those stored.
#[test]
fn r025_an_object_is_whole_while_memory_fails() {
    let (zone, pool) = pool();
    let is_over = AtomicBool::new(false);
    let repeat = |work: &dyn Fn()| {
        while !is_over.load(Relaxed) {
            work();
        }
    };
    let (mut objects, mut lost) = (Vec::new(), 0);
    thread::scope(|scope| {
        let workers = [1, 2].map(|seed| {
            scope.spawn({
                let (pool, is_over) = (&pool, &is_over);
                move || {
                    let _over = Over(is_over);
                    work(pool, is_over, seed)
                }
            })
        });
        scope.spawn(|| repeat(&|| _ = pool.compact(&Budget::unlimited())));
        scope.spawn(|| repeat(&|| _ = zone.compact(CompactRequest::default())));
        let injector = scope.spawn(|| fail_frames(&zone, FAILURES, &is_over));
        let injected = injector.join();
        is_over.store(true, Relaxed);
        injected.expect("no panic");
        for worker in workers {
            let (left, of_them) = worker.join().expect("no panic");
            objects.extend(left);
            lost += of_them;
        }
    });
    assert!(lost > FAILURES / 50, "objects were lost: {lost}");
    let mut rng = Rng::with_seed(7);
    for object in objects {
        object.is_whole(&pool, &mut rng);
        assert_eq!(pool.free(object.handle), Ok(object.len));
    }
    pool.check().expect("consistent");
    zone.drain();
    zone.check().expect("consistent");
    let stats = zone.memory_failure_stats();
    assert_eq!((stats.recovered, stats.delayed, pool.frames()), (stats.total, FrameCount(0), 0));
}
