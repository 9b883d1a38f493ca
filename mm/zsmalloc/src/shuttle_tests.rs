//! The pool under shuttle: random schedules of several threads, with the real code and geometry.

use std::sync::Arc;

use frames::{
    CompactRequest, FrameCount, MigrateType, NoLocksHeld, Order, Reclaim, Zone, ZoneConfig,
};
use std::sync::atomic::{AtomicU64 as AtomicCount, Ordering::Relaxed};
use sync::atomic::{AtomicU64, Ordering};
use sync::thread;
use sys::Backing;

use crate::{AccessError, AllocError, Budget, Handle, Pool, PoolConfig};

const SLOTS: usize = 6;
const ROUNDS: u64 = 12;

struct Shared {
    pool: Arc<Pool>,
    slots: [AtomicU64; SLOTS],
}

fn shared() -> Arc<Shared> {
    let (capacity, backing) = (FrameCount(1024), Backing::AnonymousSmall);
    let zone = Zone::new(ZoneConfig { capacity, backing, ..ZoneConfig::default() });
    let config =
        PoolConfig { max_objects: Some(64), backing: Backing::Heap, ..PoolConfig::default() };
    let pool = Pool::new(Arc::new(zone.expect("a small zone")), config).expect("a small pool");
    Arc::new(Shared { pool, slots: std::array::from_fn(|_| AtomicU64::new(0)) })
}

fn tagged(tag: u64) -> Vec<u8> {
    // Two lengths of one class and two of others, one of them huge.
    let len = [1400, 1404, 300, 4096][tag as usize % 4];
    tag.to_le_bytes().into_iter().cycle().take(len).collect()
}

/// Returns a tag that names the slot of its object.
fn tag_for(slot: usize, number: u64) -> u64 {
    (slot as u64) << 48 | number
}

/// Returns whether these are the bytes of an object that was stored for `slot`.
fn belongs_to(slot: usize, bytes: &[u8]) -> bool {
    let tag = bytes.first_chunk().map(|tag| u64::from_le_bytes(*tag));
    tag.is_some_and(|tag| tag >> 48 == slot as u64 && bytes == tagged(tag))
}

/// Stores an object for each slot in the second pageblock and leaves the first one free, so that
/// frame compaction can move them.
fn fill_high(shared: &Shared) {
    let low =
        shared.pool.zone().alloc_block(Order::PAGEBLOCK, MigrateType::Movable, Reclaim::NotAllowed);
    for (number, slot) in shared.slots.iter().enumerate() {
        let handle = shared.pool.store(&tagged(tag_for(number, number as u64))).expect("room");
        slot.store(handle.to_bits(), Ordering::Release);
    }
    drop(low.expect("an empty zone"));
}

/// Stores new objects over old ones, like a block device.
fn writer(shared: &Shared, seed: u64) {
    for round in 0..ROUNDS {
        let number = (seed * 5 + round * 7) as usize % SLOTS;
        let slot = &shared.slots[number];
        match shared.pool.store(&tagged(tag_for(number, seed << 32 | round))) {
            Ok(new) => {
                let old = slot.swap(new.to_bits(), Ordering::AcqRel);
                if old != 0 {
                    shared
                        .pool
                        .free(Handle::from_bits(old))
                        .expect("swapped out once, so freed once");
                }
            }
            Err(error) => assert_eq!(error, AllocError::Limit),
        }
    }
}

fn reader(shared: &Shared) {
    for round in 0..ROUNDS {
        let number = round as usize % SLOTS;
        let bits = shared.slots[number].load(Ordering::Acquire);
        if bits == 0 {
            continue;
        }
        match shared.pool.read(Handle::from_bits(bits)) {
            Ok(object) => {
                assert!(belongs_to(number, &object.to_vec()));
                thread::yield_now();
                assert!(belongs_to(number, &object.to_vec()), "a reader's bytes stay unchanged");
            }
            Err(error) => assert_eq!(error, AccessError::Stale),
        }
    }
}

/// S-01, S-12, S-13, S-15, S-21, S-29, R-298, R-417: two writers, a reader and a compactor. Every
/// byte is checked, and no frame is left.
#[test]
fn s21_a_pool_in_use_by_four_threads() {
    let moved = Arc::new(AtomicCount::new(0));
    let all_moved = Arc::clone(&moved);
    sync::check_random(
        move || {
            let shared = shared();
            fill_high(&shared);
            shared.pool.zone().set_limit(Some(FrameCount(7)));
            let mut threads = Vec::new();
            for seed in 1..=2 {
                let shared = Arc::clone(&shared);
                threads.push(thread::spawn(move || writer(&shared, seed)));
            }
            threads.push(thread::spawn({
                let shared = Arc::clone(&shared);
                move || reader(&shared)
            }));
            threads.push(thread::spawn({
                let shared = Arc::clone(&shared);
                move || {
                    for _ in 0..4 {
                        shared.pool.compact(&Budget::unlimited());
                        shared.pool.zone().compact(CompactRequest::default());
                    }
                }
            }));
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
            shared.pool.check().expect("consistent");
            // Relaxed: a sum over schedules that run one after the other.
            all_moved.fetch_add(shared.pool.zone().vmstat().pgmigrate_success, Relaxed);
            for slot in &shared.slots {
                let bits = slot.load(Ordering::Acquire);
                if bits != 0 {
                    shared.pool.free(Handle::from_bits(bits)).expect("live");
                }
            }
            assert_eq!(shared.pool.frames(), 0);
            shared.pool.check().expect("consistent");
        },
        500,
    );
    assert!(
        moved.load(Relaxed) > 100,
        "frames were moved {moved:?} times, too few to show anything"
    );
}

/// B13, L-10: two compactions, a scan and a reader at once. Each freed frame is
/// counted once, or is freed by the reader.
#[test]
fn b13_compactions_and_a_scan_share_the_classes() {
    sync::check_random(
        || {
            let shared = shared();
            // Every third object gets a slot; its tag names the slot.
            let store = |number: u64| {
                shared.pool.store(&tagged(tag_for(number as usize / 3 % SLOTS, number)))
            };
            let handles: Vec<Handle> = (0..48).map(|number| store(number).expect("room")).collect();
            for (&handle, number) in handles.iter().zip(0..) {
                match number % 3 {
                    0 => {
                        shared.slots[number / 3 % SLOTS].store(handle.to_bits(), Ordering::Release)
                    }
                    _ => _ = shared.pool.free(handle).expect("live"),
                }
            }
            let before = shared.pool.frames();
            let spawn = |work: fn(&Shared) -> u64| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || work(&shared))
            };
            let compact = |shared: &Shared| shared.pool.compact(&Budget::unlimited()).frames_freed;
            let scan = |shared: &Shared| {
                shared.pool.zone().shrink(FrameCount(2), &NoLocksHeld::promise()).0
            };
            let read = |shared: &Shared| {
                reader(shared);
                0
            };
            let threads = [spawn(compact), spawn(compact), spawn(scan), spawn(read)];
            let freed: u64 =
                threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
            let gone = before - shared.pool.frames();
            assert!(freed <= gone, "{freed} frames counted, {gone} gone");
            assert_eq!(shared.pool.stats().compaction.frames_freed, freed);
            shared.pool.compact(&Budget::unlimited());
            assert_eq!(shared.pool.frames_freeable(), 0);
            shared.pool.check().expect("consistent");
        },
        300,
    );
}
