//! One pool: several threads store, read, free and compact its objects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64 as AtomicCount, Ordering::Relaxed};

use frames::{CompactRequest, FrameCount, NoLocksHeld};
use sync::atomic::Ordering;
use sync::thread;

use super::{Slots, small_pool, zone};
use crate::{Budget, Handle};

const SLOTS: usize = 6;
const ROUNDS: u64 = 12;

/// Returns empty slots. Two lengths are of one class and two of others, one of them huge.
fn slots() -> Arc<Slots> {
    Arc::new(Slots::new(small_pool(&zone()), SLOTS, [1400, 1404, 300, 4096]))
}

fn writer(slots: &Slots, seed: u64) {
    for round in 0..ROUNDS {
        slots.overwrite((seed * 5 + round * 7) as usize % SLOTS, seed << 32 | round);
    }
}

fn reader(slots: &Slots) {
    (0..ROUNDS as usize).for_each(|round| slots.read(round % SLOTS));
}

/// S-01, S-12, S-13, S-15, S-21, S-29, R-298, R-417: two writers, a reader and a compactor. Every
/// byte is checked, and no frame is left.
#[test]
fn s21_a_pool_in_use_by_four_threads() {
    let moved = Arc::new(AtomicCount::new(0));
    let all_moved = Arc::clone(&moved);
    sync::check_random(
        move || {
            let slots = slots();
            slots.fill_high();
            slots.pool.zone().set_limit(Some(FrameCount(7)));
            let compactor = |slots: &Slots| {
                for _ in 0..4 {
                    slots.pool.compact(&Budget::unlimited());
                    slots.pool.zone().compact(CompactRequest::default());
                }
            };
            let work: [fn(&Slots); 4] =
                [|slots| writer(slots, 1), |slots| writer(slots, 2), reader, compactor];
            let threads = work.map(|work| {
                let slots = Arc::clone(&slots);
                thread::spawn(move || work(&slots))
            });
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
            slots.pool.check().expect("consistent");
            // Relaxed: a sum over schedules that run one after the other.
            all_moved.fetch_add(slots.pool.zone().vmstat().pgmigrate_success, Relaxed);
            slots.free_all();
            assert_eq!(slots.pool.frames(), 0);
            slots.pool.check().expect("consistent");
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
            let slots = slots();
            // Every third object gets a slot; its tag names the slot.
            let store = |number: u64| {
                let tag = Slots::tag_for(number as usize / 3 % SLOTS, number);
                slots.pool.store(&slots.tagged(tag)).expect("room")
            };
            let handles: Vec<Handle> = (0..48).map(store).collect();
            for (&handle, number) in handles.iter().zip(0..) {
                match number % 3 {
                    0 => {
                        slots.handles[number / 3 % SLOTS].store(handle.to_bits(), Ordering::Release)
                    }
                    _ => _ = slots.pool.free(handle).expect("live"),
                }
            }
            let before = slots.pool.frames();
            let spawn = |work: fn(&Slots) -> u64| {
                let slots = Arc::clone(&slots);
                thread::spawn(move || work(&slots))
            };
            let compact = |slots: &Slots| slots.pool.compact(&Budget::unlimited()).frames_freed;
            let scan =
                |slots: &Slots| slots.pool.zone().shrink(FrameCount(2), &NoLocksHeld::promise()).0;
            let read = |slots: &Slots| {
                reader(slots);
                0
            };
            let threads = [spawn(compact), spawn(compact), spawn(scan), spawn(read)];
            let freed: u64 =
                threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
            let gone = before - slots.pool.frames();
            assert!(freed <= gone, "{freed} frames counted, {gone} gone");
            assert_eq!(slots.pool.stats().compaction.frames_freed, freed);
            slots.pool.compact(&Budget::unlimited());
            assert_eq!(slots.pool.frames_freeable(), 0);
            slots.pool.check().expect("consistent");
        },
        300,
    );
}
