//! The whole system: two pools and a balloon share a zone. Threads store, read and free objects,
//! compact objects and frames, isolate and put back frames, inflate and deflate the balloon, and
//! drop and recreate one pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64 as AtomicCount, Ordering::Relaxed};

use balloon::{Balloon, BalloonConfig, BalloonUnit, OsHost};
use frames::{CompactRequest, FrameCount, MigrateMode, MigrateType, Pfn, Reclaim, Zone};
use sync::{Mutex, thread};

use super::{Slots, small_pool, zone};
use crate::{Budget, Pool};

const SLOTS: usize = 4;
const ROUNDS: u64 = 8;

struct Fixture {
    slots: Slots,
    /// The pool that is dropped and recreated; only the thread that does this stores in it.
    other: Mutex<Option<Arc<Pool>>>,
    balloon: Arc<Balloon>,
    /// Frames that the scanners of frame compaction moved.
    compacted: AtomicCount,
}

impl Fixture {
    fn zone(&self) -> &Arc<Zone> {
        self.slots.pool.zone()
    }
}

fn fixture() -> Arc<Fixture> {
    let zone = zone();
    let config = BalloonConfig { unit: BalloonUnit::Frames, ..BalloonConfig::default() };
    let balloon =
        Balloon::new(Arc::clone(&zone), Arc::new(OsHost), config).expect("a number is free");
    let slots = Slots::new(small_pool(&zone), SLOTS, [1400, 2900, 300, 4096]);
    let other = Mutex::new(Some(small_pool(&zone)));
    slots.fill_high();
    zone.set_limit(Some(FrameCount(48)));
    Arc::new(Fixture { slots, other, balloon, compacted: AtomicCount::new(0) })
}

fn writer(fixture: &Fixture) {
    (0..ROUNDS).for_each(|round| fixture.slots.overwrite(round as usize % SLOTS, round * 7));
}

fn reader(fixture: &Fixture) {
    (0..ROUNDS as usize).for_each(|round| fixture.slots.read(round % SLOTS));
}

fn compactor(fixture: &Fixture) {
    for _ in 0..3 {
        fixture.slots.pool.compact(&Budget::unlimited());
        let moved = fixture.zone().compact(CompactRequest::default()).frames_moved;
        // Relaxed: a sum that is read when all threads have ended.
        fixture.compacted.fetch_add(moved, Relaxed);
    }
}

/// Isolates the lowest frames of both pageblocks, moves some of them and puts the rest back.
fn migrator(fixture: &Fixture) {
    for round in 0..3 {
        let mut batch: Vec<_> =
            (0..6).chain(512..518).filter_map(|pfn| fixture.zone().isolate(Pfn(pfn))).collect();
        thread::yield_now();
        let mut left = round;
        let mut targets = |_| {
            left = u32::checked_sub(left, 1)?;
            fixture.zone().alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok()
        };
        fixture.zone().migrate_pages(&mut batch, &mut targets, MigrateMode::Async);
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
            let _ = pool.store(&fixture.slots.tagged(round * 3 + tag));
        }
        drop(pool);
        *fixture.other.lock() = Some(small_pool(fixture.zone()));
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
            fixture.slots.pool.check().expect("consistent");
            assert_eq!(fixture.zone().stats().in_use.0, fixture.slots.pool.frames());
            fixture.slots.free_all();
            assert_eq!((fixture.zone().stats().in_use.0, fixture.zone().isolated()), (0, 0));
            fixture.zone().check().expect("consistent");
        },
        300,
    );
    assert!(
        compacted.load(Relaxed) > 100,
        "compaction moved {compacted:?} frames, too few to show anything"
    );
}
