//! The whole house under shuttle: a pool and a balloon on one zone, real code, real geometry, random schedules of several threads.

use std::sync::Arc;
// Counted across schedules, so not the scheduler's own.
use std::sync::atomic::{AtomicU64 as AtomicCount, Ordering::Relaxed};

use frames::{
    Backing, CompactRequest, FrameCount, MigrateMode, MigrateType, NoLocksHeld, Order, Pfn,
    Reclaim, Zone, ZoneConfig,
};
use sync::atomic::{AtomicU64, Ordering};
use sync::thread;
use zsmalloc::{AccessError, AllocError, Budget, Handle, Pool, PoolConfig};

use crate::record::Recorder;
use crate::{Balloon, BalloonConfig, Stop, Unit};

const SLOTS: usize = 5;
const ROUNDS: u64 = 8;

struct House {
    zone: Arc<Zone>,
    pool: Arc<Pool>,
    balloon: Arc<Balloon>,
    host: Arc<Recorder>,
    slots: [AtomicU64; SLOTS],
    /// Not zero when the balloon's thread is done.
    breathed: AtomicU64,
    /// Frames that the scanners of frame compaction moved.
    compacted: AtomicCount,
}

fn pool_on(zone: &Arc<Zone>) -> Arc<Pool> {
    let config =
        PoolConfig { max_objects: Some(64), backing: Backing::Heap, ..PoolConfig::default() };
    Pool::new(Arc::clone(zone), config).expect("a small pool")
}

fn house() -> Arc<House> {
    let (capacity, backing) = (FrameCount(1024), Backing::AnonymousSmall);
    let zone = Zone::new(ZoneConfig { capacity, backing, ..ZoneConfig::default() });
    let zone = Arc::new(zone.expect("a small zone"));
    let host = Arc::new(Recorder::default());
    let config =
        BalloonConfig { unit: Unit::Frames, oom_frames: FrameCount(2), ..BalloonConfig::default() };
    let balloon = Balloon::new(Arc::clone(&zone), host.clone(), config).expect("a number is left");
    let pool = pool_on(&zone);
    // What is stored first lies in the second pageblock, with the first one free: frame compaction has something to move.
    let low = zone
        .alloc_block(Order::PAGEBLOCK, MigrateType::Movable, Reclaim::NotAllowed)
        .expect("an empty zone");
    let first =
        |slot: usize| pool.store(&tagged(tag_for(slot, slot as u64))).expect("room").to_bits();
    let slots = std::array::from_fn(|slot| AtomicU64::new(first(slot)));
    drop(low);
    zone.set_limit(Some(FrameCount(14)));
    let (breathed, compacted) = (AtomicU64::new(0), AtomicCount::new(0));
    Arc::new(House { zone, pool, balloon, host, slots, breathed, compacted })
}

/// A tag that says which slot the object is stored for.
fn tag_for(slot: usize, number: u64) -> u64 {
    (slot as u64) << 48 | number
}

fn tagged(tag: u64) -> Vec<u8> {
    // Two classes that share frames among objects, and the huge one.
    let len = [1400, 4096, 300, 1404][tag as usize % 4];
    tag.to_le_bytes().into_iter().cycle().take(len).collect()
}

/// Whether these are all the bytes of an object that was stored for `slot`.
fn belongs_to(slot: usize, bytes: &[u8]) -> bool {
    let tag = bytes.first_chunk().map(|tag| u64::from_le_bytes(*tag));
    tag.is_some_and(|tag| tag >> 48 == slot as u64 && bytes == tagged(tag))
}

/// Stores new objects over old ones, and lets some go.
fn writer(house: &House, seed: u64) {
    for round in 0..ROUNDS {
        let number = (seed * 3 + round * 7) as usize % SLOTS;
        let slot = &house.slots[number];
        let new = match house.pool.store(&tagged(tag_for(number, seed << 32 | round))) {
            Ok(new) if round % 4 != 3 => new.to_bits(),
            Ok(new) => {
                house.pool.free(new).expect("nobody else knows it");
                0
            }
            Err(error) => {
                assert_eq!(error, AllocError::Limit);
                // As a block device does before it refuses a write.
                house.zone.shrink(FrameCount(1), &NoLocksHeld::promise());
                0
            }
        };
        let old = slot.swap(new, Ordering::AcqRel);
        if old != 0 {
            house.pool.free(Handle::from_bits(old)).expect("swapped out once, so freed once");
        }
    }
}

fn reader(house: &House) {
    for round in 0..ROUNDS {
        let number = round as usize % SLOTS;
        let bits = house.slots[number].load(Ordering::Acquire);
        if bits == 0 {
            continue;
        }
        match house.pool.read(Handle::from_bits(bits)) {
            Ok(object) => {
                assert!(belongs_to(number, &object.to_vec()));
                thread::yield_now();
                assert!(
                    belongs_to(number, &object.to_vec()),
                    "a reader's bytes stay while it looks"
                );
            }
            Err(error) => assert_eq!(error, AccessError::Stale),
        }
    }
}

fn breather(house: &House) {
    for target in [5, 1, 9, 3, 0, 6] {
        let change = house.balloon.set_target(FrameCount(target));
        assert!(!matches!(change.stop, Stop::Refused(_) | Stop::Reentered), "{change:?}");
    }
    house.breathed.store(1, Ordering::Release);
}

fn compactor(house: &House) {
    for _ in 0..3 {
        house.pool.compact(&Budget::unlimited());
        let moved = house.zone.compact(CompactRequest::default()).frames_moved;
        // Relaxed: a sum that is read when all threads have ended.
        house.compacted.fetch_add(moved, Relaxed);
    }
}

/// The scanners of a compaction move frames down from the second pageblock. This thread moves those in the first one by hand, too, for as long
/// as the balloon breathes.
fn mover(house: &House) {
    let fresh = |_| house.zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok();
    for round in (0..3).cycle() {
        if house.breathed.load(Ordering::Acquire) != 0 {
            return;
        }
        let mut batch: Vec<_> =
            (round..24).step_by(3).filter_map(|number| house.zone.isolate(Pfn(number))).collect();
        house.zone.migrate_pages(&mut batch, &mut { fresh }, MigrateMode::SyncLight);
    }
}

/// Pools and balloons come and go on the same zone meanwhile.
fn builder(house: &House) {
    for round in 0..2_u64 {
        let pool = pool_on(&house.zone);
        let handle = pool.store(&tagged(round));
        let config = BalloonConfig { unit: Unit::Frames, ..BalloonConfig::default() };
        let balloon = Balloon::new(Arc::clone(&house.zone), Arc::new(Recorder::default()), config)
            .expect("a number");
        let _ = balloon.set_target(FrameCount(2));
        if let Ok(handle) = handle {
            assert_eq!(pool.read(handle).expect("live").to_vec(), tagged(round));
        }
    }
}

/// S-03, S-10, S-16, S-32, S-39, S-41, L-03, B9, B10, R-158: allocate, free, read, compact, migrate, balloon and destroy at once; every byte is checked, no
/// frame is lost or invented, and the host has what the balloon holds.
#[test]
fn r158_a_zone_in_use_by_a_pool_a_balloon_and_whoever_comes_and_goes() {
    // Over all schedules: a run in which nothing met proves nothing.
    let sum = || Arc::new(AtomicCount::new(0));
    let (moved, given, compacted) = (sum(), sum(), sum());
    let (all_moved, all_given, all_compacted) =
        (Arc::clone(&moved), Arc::clone(&given), Arc::clone(&compacted));
    sync::check_random(
        move || {
            let house = house();
            let jobs: [fn(&House); 7] = [
                |house| writer(house, 1),
                |house| writer(house, 2),
                reader,
                breather,
                compactor,
                mover,
                builder,
            ];
            let threads = jobs.map(|job| {
                let house = Arc::clone(&house);
                thread::spawn(move || job(&house))
            });
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
            let House { zone, pool, balloon, host, slots, .. } = &*house;
            pool.check().expect("a consistent pool");
            balloon.check().expect("a consistent balloon");
            assert_eq!(host.has(), balloon.pieces());
            assert_eq!(zone.stats().in_use.0, pool.frames() + balloon.stats().actual.0);
            for bits in
                slots.iter().map(|slot| slot.load(Ordering::Acquire)).filter(|&bits| bits != 0)
            {
                pool.free(Handle::from_bits(bits)).expect("live");
            }
            assert_eq!(balloon.deflate().stop, Stop::Reached);
            assert_eq!((pool.frames(), zone.stats().in_use.0, zone.isolated()), (0, 0, 0));
            zone.check().expect("a consistent zone");
            let stats = balloon.stats();
            all_compacted.fetch_add(house.compacted.load(Relaxed), Relaxed);
            all_moved.fetch_add(stats.migrated_total, Relaxed);
            all_given.fetch_add(stats.oom_deflated_total, Relaxed);
        },
        400,
    );
    let (moved, given, compacted) =
        (moved.load(Relaxed), given.load(Relaxed), compacted.load(Relaxed));
    println!(
        "{moved} ballooned frames migrated, {given} given back to writers, {compacted} frames moved by compaction"
    );
    assert!(moved > 100 && given > 100 && compacted > 100, "{moved} {given} {compacted}");
}
