//! The whole pool under shuttle: real code, real geometry, random schedules of several threads.

use std::sync::Arc;

use frames::{CompactRequest, FrameCount, NoLocksHeld, Zone, ZoneConfig};
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
    let zone = Zone::new(ZoneConfig { capacity: FrameCount(512), backing: Backing::Heap, ..ZoneConfig::default() });
    let config = PoolConfig { max_objects: Some(64), backing: Backing::Heap, ..PoolConfig::default() };
    let pool = Pool::new(Arc::new(zone.expect("a small zone")), config).expect("a small pool");
    Arc::new(Shared { pool, slots: std::array::from_fn(|_| AtomicU64::new(0)) })
}

fn tagged(tag: u64) -> Vec<u8> {
    // Lengths of one class and of two others, one of them huge.
    let len = [1400, 1404, 300, 4096][tag as usize % 4];
    tag.to_le_bytes().into_iter().cycle().take(len).collect()
}

fn is_whole(bytes: &[u8]) -> bool {
    bytes.len() >= 8 && bytes == tagged(u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")))
}

/// Stores new objects over old ones, as a block device does.
fn writer(shared: &Shared, seed: u64) {
    for round in 0..ROUNDS {
        let slot = &shared.slots[(seed * 5 + round * 7) as usize % SLOTS];
        match shared.pool.store(&tagged(seed << 32 | round)) {
            Ok(new) => {
                let old = slot.swap(new.to_bits(), Ordering::AcqRel);
                if old != 0 {
                    shared.pool.free(Handle::from_bits(old)).expect("swapped out once, so freed once");
                }
            }
            Err(error) => assert_eq!(error, AllocError::Limit),
        }
    }
}

fn reader(shared: &Shared) {
    for round in 0..ROUNDS {
        let bits = shared.slots[round as usize % SLOTS].load(Ordering::Acquire);
        if bits == 0 {
            continue;
        }
        match shared.pool.read(Handle::from_bits(bits)) {
            Ok(object) => {
                assert!(is_whole(&object.to_vec()));
                thread::yield_now();
                assert!(is_whole(&object.to_vec()), "a reader's bytes stay while it looks");
            }
            Err(error) => assert_eq!(error, AccessError::Stale),
        }
    }
}

/// S-01, S-12, S-13, S-15, S-21, S-29, R-298, R-417: two writers, a reader and a compactor; every byte checked, nothing stranded.
#[test]
fn s21_a_pool_in_use_by_four_threads() {
    sync::check_random(
        || {
            let shared = shared();
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
}

/// B13, L-10: two compactions, a scan and a reader at once. Each frame that is gone was counted once, or was left to the reader.
#[test]
fn b13_compactions_and_a_scan_share_the_classes() {
    sync::check_random(
        || {
            let shared = shared();
            let handles: Vec<Handle> = (0..48).map(|tag| shared.pool.store(&tagged(tag)).expect("room")).collect();
            for (&handle, number) in handles.iter().zip(0..) {
                match number % 3 {
                    0 => shared.slots[number / 3 % SLOTS].store(handle.to_bits(), Ordering::Release),
                    _ => _ = shared.pool.free(handle).expect("live"),
                }
            }
            let before = shared.pool.frames();
            let spawn = |work: fn(&Shared) -> u64| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || work(&shared))
            };
            let compact = |shared: &Shared| shared.pool.compact(&Budget::unlimited()).frames_freed;
            let scan = |shared: &Shared| shared.pool.zone().shrink(FrameCount(2), &NoLocksHeld::promise()).0;
            let read = |shared: &Shared| {
                reader(shared);
                0
            };
            let threads = [spawn(compact), spawn(compact), spawn(scan), spawn(read)];
            let freed: u64 = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
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
