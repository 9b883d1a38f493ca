//! Shuttle tests of the whole stack: a pool and a balloon on one zone, the real code and geometry,
//! random schedules of several threads.

use std::sync::Arc;
// Std atomics: these counts span schedules.
use std::sync::atomic::{AtomicU64 as AtomicCount, Ordering::Relaxed};

use frames::{
    Backing, CompactRequest, FrameCount, MigrateMode, MigrateType, NoLocksHeld, Order, Pfn,
    Reclaim, Zone, ZoneConfig,
};
use sync::atomic::{AtomicU64, Ordering};
use sync::thread;
use zsmalloc::{AccessError, AllocError, Budget, Handle, Pool, PoolConfig};

use crate::test_host::RecordingHost;
use crate::{Balloon, BalloonConfig, BalloonUnit, StopReason};

const SLOTS: usize = 5;
const ROUNDS: u64 = 8;

struct Fixture {
    zone: Arc<Zone>,
    pool: Arc<Pool>,
    balloon: Arc<Balloon>,
    host: Arc<RecordingHost>,
    slots: [AtomicU64; SLOTS],
    /// Not zero after the thread that resizes the balloon is done.
    resizer_done: AtomicU64,
    /// The number of frames that frame compaction moved.
    compacted: AtomicCount,
}

fn pool_on(zone: &Arc<Zone>) -> Arc<Pool> {
    let config =
        PoolConfig { max_objects: Some(64), backing: Backing::Heap, ..PoolConfig::default() };
    Pool::new(Arc::clone(zone), config).expect("a small pool")
}

fn fixture() -> Arc<Fixture> {
    let (capacity, backing) = (FrameCount(1024), Backing::AnonymousSmall);
    let zone = Zone::new(ZoneConfig { capacity, backing, ..ZoneConfig::default() });
    let zone = Arc::new(zone.expect("a small zone"));
    let (unit, oom_frames) = (BalloonUnit::Frames, FrameCount(2));
    let config = BalloonConfig { unit, oom_frames, ..BalloonConfig::default() };
    let (balloon, host) = RecordingHost::of_balloon(&zone, config);
    let pool = pool_on(&zone);
    // The first objects are stored in the second pageblock while the first is empty, so frame
    // compaction has frames to move.
    let low = zone
        .alloc_block(Order::PAGEBLOCK, MigrateType::Movable, Reclaim::NotAllowed)
        .expect("an empty zone");
    let first =
        |slot: usize| pool.store(&tagged(tag_for(slot, slot as u64))).expect("room").to_bits();
    let slots = std::array::from_fn(|slot| AtomicU64::new(first(slot)));
    drop(low);
    zone.set_limit(Some(FrameCount(14)));
    let (resizer_done, compacted) = (AtomicU64::new(0), AtomicCount::new(0));
    Arc::new(Fixture { zone, pool, balloon, host, slots, resizer_done, compacted })
}

/// Returns a tag that names the slot an object is stored for.
fn tag_for(slot: usize, number: u64) -> u64 {
    (slot as u64) << 48 | number
}

/// Returns an object's bytes: its tag, repeated.
fn tagged(tag: u64) -> Vec<u8> {
    // Sizes of two classes whose objects share frames, and of the huge class.
    let len = [1400, 4096, 300, 1404][tag as usize % 4];
    tag.to_le_bytes().into_iter().cycle().take(len).collect()
}

/// Returns whether these are all bytes of an object that was stored for `slot`.
fn belongs_to(slot: usize, bytes: &[u8]) -> bool {
    let tag = bytes.first_chunk().map(|tag| u64::from_le_bytes(*tag));
    tag.is_some_and(|tag| tag >> 48 == slot as u64 && bytes == tagged(tag))
}

/// Replaces objects by new ones, and frees some.
fn writer(fixture: &Fixture, seed: u64) {
    for round in 0..ROUNDS {
        let number = (seed * 3 + round * 7) as usize % SLOTS;
        let slot = &fixture.slots[number];
        let new = match fixture.pool.store(&tagged(tag_for(number, seed << 32 | round))) {
            Ok(new) if round % 4 != 3 => new.to_bits(),
            Ok(new) => {
                fixture.pool.free(new).expect("no other thread has the handle");
                0
            }
            Err(error) => {
                assert_eq!(error, AllocError::Limit);
                // As a block device does before it refuses a write.
                fixture.zone.shrink(FrameCount(1), &NoLocksHeld::promise());
                0
            }
        };
        let old = slot.swap(new, Ordering::AcqRel);
        if old != 0 {
            fixture.pool.free(Handle::from_bits(old)).expect("only one thread swaps a handle out");
        }
    }
}

/// Reads objects twice and checks all bytes.
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
                assert!(
                    belongs_to(number, &object.to_vec()),
                    "the bytes do not change under a read guard"
                );
            }
            Err(error) => assert_eq!(error, AccessError::Stale),
        }
    }
}

/// Sets several targets in turn.
fn resizer(fixture: &Fixture) {
    for target in [5, 1, 9, 3, 0, 6] {
        let change = fixture.balloon.set_target(FrameCount(target));
        assert!(
            !matches!(change.stop, StopReason::Refused(_) | StopReason::Reentered),
            "{change:?}"
        );
    }
    fixture.resizer_done.store(1, Ordering::Release);
}

/// Runs both compactions.
fn compactor(fixture: &Fixture) {
    for _ in 0..3 {
        fixture.pool.compact(&Budget::unlimited());
        let moved = fixture.zone.compact(CompactRequest::default()).frames_moved;
        // Relaxed: a sum that is read after all threads have been joined.
        fixture.compacted.fetch_add(moved, Relaxed);
    }
}

/// Migrates frames of the first pageblock for as long as the balloon is resized; the scanners of
/// frame compaction move frames of the second one.
fn mover(fixture: &Fixture) {
    let fresh = |_| fixture.zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok();
    for round in (0..3).cycle() {
        if fixture.resizer_done.load(Ordering::Acquire) != 0 {
            return;
        }
        let mut batch: Vec<_> =
            (round..24).step_by(3).filter_map(|number| fixture.zone.isolate(Pfn(number))).collect();
        fixture.zone.migrate_pages(&mut batch, &mut { fresh }, MigrateMode::SyncLight);
    }
}

/// Creates and drops pools and balloons on the same zone.
fn builder(fixture: &Fixture) {
    for round in 0..2_u64 {
        let pool = pool_on(&fixture.zone);
        let handle = pool.store(&tagged(round));
        let config = BalloonConfig { unit: BalloonUnit::Frames, ..BalloonConfig::default() };
        let (balloon, _host) = RecordingHost::of_balloon(&fixture.zone, config);
        let _ = balloon.set_target(FrameCount(2));
        if let Ok(handle) = handle {
            assert_eq!(pool.read(handle).expect("live").to_vec(), tagged(round));
        }
    }
}

/// S-03, S-10, S-16, S-32, S-39, S-41, L-03, B9, B10, R-158: allocate, free, read, compact,
/// migrate, resize and destroy at once. Every byte is checked, frames are neither lost nor
/// invented, and the host has what the balloon holds.
#[test]
fn r158_a_pool_and_a_balloon_share_a_busy_zone() {
    // Summed over all schedules: a run in which threads never met proves nothing.
    let sum = || Arc::new(AtomicCount::new(0));
    let (moved, given, compacted) = (sum(), sum(), sum());
    let (all_moved, all_given, all_compacted) =
        (Arc::clone(&moved), Arc::clone(&given), Arc::clone(&compacted));
    sync::check_random(
        move || {
            let fixture = fixture();
            let jobs: [fn(&Fixture); 7] = [
                |fixture| writer(fixture, 1),
                |fixture| writer(fixture, 2),
                reader,
                resizer,
                compactor,
                mover,
                builder,
            ];
            let threads = jobs.map(|job| {
                let fixture = Arc::clone(&fixture);
                thread::spawn(move || job(&fixture))
            });
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
            let Fixture { zone, pool, balloon, host, slots, .. } = &*fixture;
            pool.check().expect("a consistent pool");
            balloon.check().expect("a consistent balloon");
            assert_eq!(host.has(), balloon.ranges());
            assert_eq!(zone.stats().in_use.0, pool.frames() + balloon.stats().actual.0);
            for bits in
                slots.iter().map(|slot| slot.load(Ordering::Acquire)).filter(|&bits| bits != 0)
            {
                pool.free(Handle::from_bits(bits)).expect("live");
            }
            assert_eq!(balloon.deflate().stop, StopReason::Reached);
            assert_eq!((pool.frames(), zone.stats().in_use.0, zone.isolated()), (0, 0, 0));
            zone.check().expect("a consistent zone");
            let stats = balloon.stats();
            all_compacted.fetch_add(fixture.compacted.load(Relaxed), Relaxed);
            all_moved.fetch_add(stats.migrated_total, Relaxed);
            all_given.fetch_add(stats.oom_deflated_total, Relaxed);
        },
        400,
    );
    let (moved, given, compacted) =
        (moved.load(Relaxed), given.load(Relaxed), compacted.load(Relaxed));
    println!(
        "{moved} ballooned frames migrated, {given} deflated for writers, \
         {compacted} frames moved by compaction"
    );
    assert!(moved > 100 && given > 100 && compacted > 100, "{moved} {given} {compacted}");
}
