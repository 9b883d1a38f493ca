//! The whole system under shuttle: random schedules, with the real code and geometry. Two pools
//! and a balloon share a zone. Threads store, read and free objects, compact objects and frames,
//! isolate and put back frames, inflate and deflate the balloon, and drop and recreate one pool.

use std::sync::Arc;

use balloon::{Balloon, BalloonConfig, BalloonUnit, OsHost};
use frames::{
    CompactRequest, FrameCount, MigrateMode, MigrateType, Order, Pfn, Reclaim, Zone, ZoneConfig,
};
use std::sync::atomic::{AtomicU64 as AtomicCount, Ordering::Relaxed};
use sync::atomic::{AtomicU64, Ordering};
use sync::{Mutex, thread};
use sys::Backing;

use crate::{AccessError, AllocError, Budget, Handle, Pool, PoolConfig};

const SLOTS: usize = 4;
const ROUNDS: u64 = 8;

struct Fixture {
    zone: Arc<Zone>,
    pool: Arc<Pool>,
    slots: [AtomicU64; SLOTS],
    /// The pool that is dropped and recreated; only the thread that does this stores in it.
    other: Mutex<Option<Arc<Pool>>>,
    balloon: Arc<Balloon>,
    /// Frames that the scanners of frame compaction moved.
    compacted: AtomicCount,
}

fn make_pool(zone: &Arc<Zone>) -> Arc<Pool> {
    let config =
        PoolConfig { max_objects: Some(64), backing: Backing::Heap, ..PoolConfig::default() };
    Pool::new(Arc::clone(zone), config).expect("a small pool")
}

fn fixture() -> Arc<Fixture> {
    let (capacity, backing) = (FrameCount(1024), Backing::AnonymousSmall);
    let config = ZoneConfig { capacity, backing, ..ZoneConfig::default() };
    let zone = Arc::new(Zone::new(config).expect("a small zone"));
    let config = BalloonConfig { unit: BalloonUnit::Frames, ..BalloonConfig::default() };
    let balloon =
        Balloon::new(Arc::clone(&zone), Arc::new(OsHost), config).expect("a number is free");
    let (pool, other) = (make_pool(&zone), make_pool(&zone));
    // The first objects lie in the second pageblock, with the first one free, so that frame
    // compaction can move them.
    let low = zone
        .alloc_block(Order::PAGEBLOCK, MigrateType::Movable, Reclaim::NotAllowed)
        .expect("an empty zone");
    let first =
        |slot: usize| pool.store(&tagged(tag_for(slot, slot as u64))).expect("room").to_bits();
    let slots = std::array::from_fn(|slot| AtomicU64::new(first(slot)));
    drop(low);
    zone.set_limit(Some(FrameCount(48)));
    let (other, compacted) = (Mutex::new(Some(other)), AtomicCount::new(0));
    Arc::new(Fixture { zone, pool, slots, other, balloon, compacted })
}

/// Returns a tag that names the slot of its object.
fn tag_for(slot: usize, number: u64) -> u64 {
    (slot as u64) << 48 | number
}

fn tagged(tag: u64) -> Vec<u8> {
    let len = [1400, 2900, 300, 4096][tag as usize % 4];
    tag.to_le_bytes().into_iter().cycle().take(len).collect()
}

/// Returns whether these are the bytes of an object that was stored for `slot`.
fn belongs_to(slot: usize, bytes: &[u8]) -> bool {
    let tag = bytes.first_chunk().map(|tag| u64::from_le_bytes(*tag));
    tag.is_some_and(|tag| tag >> 48 == slot as u64 && bytes == tagged(tag))
}

fn writer(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let number = round as usize % SLOTS;
        let slot = &fixture.slots[number];
        match fixture.pool.store(&tagged(tag_for(number, round * 7))) {
            Ok(new) => {
                let old = slot.swap(new.to_bits(), Ordering::AcqRel);
                if old != 0 {
                    fixture
                        .pool
                        .free(Handle::from_bits(old))
                        .expect("swapped out once, so freed once");
                }
            }
            Err(error) => assert_eq!(error, AllocError::Limit),
        }
    }
}

fn reader(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let number = round as usize % SLOTS;
        let bits = fixture.slots[number].load(Ordering::Acquire);
        if bits == 0 {
            continue;
        }
        match fixture.pool.read(Handle::from_bits(bits)) {
            Ok(object) => {
                assert!(belongs_to(number, &object.to_vec()));
                thread::yield_now();
                assert!(belongs_to(number, &object.to_vec()), "a reader's bytes stay unchanged");
            }
            Err(error) => assert_eq!(error, AccessError::Stale),
        }
    }
}

fn compactor(fixture: &Fixture) {
    for _ in 0..3 {
        fixture.pool.compact(&Budget::unlimited());
        let moved = fixture.zone.compact(CompactRequest::default()).frames_moved;
        // Relaxed: a sum that is read when all threads have ended.
        fixture.compacted.fetch_add(moved, Relaxed);
    }
}

/// Isolates the lowest frames of both pageblocks, moves some of them and puts the rest back.
fn migrator(fixture: &Fixture) {
    for round in 0..3 {
        let mut batch: Vec<_> =
            (0..6).chain(512..518).filter_map(|pfn| fixture.zone.isolate(Pfn(pfn))).collect();
        thread::yield_now();
        let mut left = round;
        let mut targets = |_| {
            left = u32::checked_sub(left, 1)?;
            fixture.zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok()
        };
        fixture.zone.migrate_pages(&mut batch, &mut targets, MigrateMode::Async);
    }
}

fn balloon_resizer(fixture: &Fixture) {
    for target in [4, 0, 2, 0] {
        // How far it gets depends on the other threads.
        let _ = fixture.balloon.set_target(FrameCount(target));
    }
}

fn destroyer(fixture: &Fixture) {
    for round in 0..3 {
        let pool = fixture.other.lock().take().expect("made below");
        for tag in 0..3 {
            // These objects stay in the pool: its drop frees them.
            let _ = pool.store(&tagged(round * 3 + tag));
        }
        drop(pool);
        *fixture.other.lock() = Some(make_pool(&fixture.zone));
    }
}

/// S-12, S-32, S-39, S-41, L-03, B10, R-108, R-158, R-298, R-417, R-453: nothing is lost, every
/// byte is there, and no frame is left.
#[test]
fn r298_everything_that_moves_at_once() {
    let compacted = Arc::new(AtomicCount::new(0));
    let all_compacted = Arc::clone(&compacted);
    sync::check_random(
        move || {
            let fixture = fixture();
            let work: [fn(&Fixture); 6] =
                [writer, reader, compactor, migrator, balloon_resizer, destroyer];
            let threads = work.map(|work| {
                let fixture = Arc::clone(&fixture);
                thread::spawn(move || work(&fixture))
            });
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
            assert_eq!(
                fixture.balloon.deflate().actual,
                FrameCount(0),
                "no frame stays in the balloon"
            );
            drop(fixture.other.lock().take());
            all_compacted.fetch_add(fixture.compacted.load(Relaxed), Relaxed);
            fixture.pool.check().expect("consistent");
            assert_eq!(fixture.zone.stats().in_use.0, fixture.pool.frames());
            for slot in &fixture.slots {
                let bits = slot.load(Ordering::Acquire);
                if bits != 0 {
                    fixture.pool.free(Handle::from_bits(bits)).expect("live");
                }
            }
            assert_eq!((fixture.zone.stats().in_use.0, fixture.zone.isolated()), (0, 0));
            fixture.zone.check().expect("consistent");
        },
        300,
    );
    assert!(
        compacted.load(Relaxed) > 100,
        "compaction moved {compacted:?} frames, too few to show anything"
    );
}
