use frames::{FrameCount, ZoneConfig};
use page::StoredPage;

use super::*;

fn zone() -> Arc<Zone> {
    let config =
        ZoneConfig { capacity: FrameCount(8), backing: Backing::Heap, ..ZoneConfig::default() };
    Arc::new(Zone::new(config).expect("a tiny zone"))
}

fn entry(pattern: u32) -> SlotEntry {
    StoredPage::Same(pattern).into()
}

fn slots(count: usize) -> Slots {
    Slots::new(zone(), count, Backing::AnonymousSmall).expect("a small table")
}

#[test]
fn a_failed_swap_returns_the_current_entry() {
    let slots = slots(10);
    assert_eq!(slots.compare_exchange(3, SlotEntry::EMPTY, entry(1)), Ok(()));
    assert_eq!(
        slots.compare_exchange(3, SlotEntry::EMPTY, entry(2)),
        Err(ExchangeError::Changed(entry(1)))
    );
    assert_eq!(
        slots.compare_exchange(3, entry(2), SlotEntry::EMPTY),
        Err(ExchangeError::Changed(entry(1)))
    );
    assert_eq!((slots.get(3), slots.occupied(0)), (entry(1), 1));
    assert_eq!(slots.compare_exchange(4, SlotEntry::EMPTY, SlotEntry::EMPTY), Ok(()));
    assert_eq!(slots.occupied(0), 1);
}

/// At the limit a chunk without memory is not entered and nothing changes; a chunk with memory
/// works as before.
#[test]
fn a_chunk_without_memory_is_not_entered() {
    let zone = zone();
    let slots = Slots::new(Arc::clone(&zone), CHUNK_SLOTS * 3, Backing::AnonymousSmall)
        .expect("a small table");
    slots.compare_exchange(0, SlotEntry::EMPTY, entry(1)).expect("enough memory");
    zone.set_memory_limit(Some(zone.memory().held + CHUNK_BYTES - 1));
    assert_eq!(
        slots.compare_exchange(CHUNK_SLOTS, SlotEntry::EMPTY, entry(1)),
        Err(ExchangeError::NoMemory)
    );
    assert_eq!(
        (slots.get(CHUNK_SLOTS), slots.occupied(1), slots.bytes()),
        (SlotEntry::EMPTY, 0, GROUP_BYTES + CHUNK_BYTES)
    );
    assert_eq!(slots.compare_exchange(1, SlotEntry::EMPTY, entry(2)), Ok(()));
    assert_eq!(slots.compare_exchange(0, entry(1), SlotEntry::EMPTY), Ok(()));
    zone.set_memory_limit(Some(zone.memory().held + CHUNK_BYTES));
    assert_eq!(slots.compare_exchange(CHUNK_SLOTS, SlotEntry::EMPTY, entry(1)), Ok(()));
    assert_eq!(zone.stats().charged_bytes, slots.bytes());
    drop(slots);
    assert_eq!(zone.stats().charged_bytes, 0);
}

/// Memory comes with the first slot of a chunk and goes when another chunk empties after it.
#[test]
fn a_chunk_costs_memory_only_while_it_is_used() {
    let slots = slots(CHUNK_SLOTS * 3);
    let counts = GROUP_BYTES;
    let chunk = (CHUNK_SLOTS * size_of::<u64>()) as u64;
    assert_eq!(slots.bytes(), 0);
    for slot in [0, CHUNK_SLOTS, 2 * CHUNK_SLOTS] {
        slots.compare_exchange(slot, SlotEntry::EMPTY, entry(7)).expect("no other thread");
    }
    assert_eq!(slots.bytes(), counts + 3 * chunk);
    slots.compare_exchange(0, entry(7), SlotEntry::EMPTY).expect("no other thread");
    assert_eq!(slots.bytes(), counts + 3 * chunk, "the last one to empty stays");
    slots.compare_exchange(CHUNK_SLOTS, entry(7), SlotEntry::EMPTY).expect("no other thread");
    assert_eq!(slots.bytes(), counts + 2 * chunk);
    slots.compare_exchange(CHUNK_SLOTS, SlotEntry::EMPTY, entry(8)).expect("no other thread");
    slots.compare_exchange(CHUNK_SLOTS, entry(8), SlotEntry::EMPTY).expect("no other thread");
    slots.compare_exchange(2 * CHUNK_SLOTS, entry(7), SlotEntry::EMPTY).expect("no other thread");
    assert_eq!(slots.bytes(), counts + chunk);
    assert!((0..slots.len()).all(|slot| slots.get(slot) == SlotEntry::EMPTY));
}

/// INV-SLOT-1 to 3 with real threads: each entry stored in a slot leaves it exactly once, and the
/// final counts match the slots.
#[test]
fn z9_every_replaced_entry_goes_to_one_thread() {
    const THREADS: u32 = 4;
    const ROUNDS: u32 = 20_000;
    let slots = slots(CHUNK_SLOTS * 2);
    let stats: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn({
                    let slots = &slots;
                    move || {
                        let (mut put, mut taken) = (0u64, 0u64);
                        for round in 0..ROUNDS {
                            let slot = if round & 1 == 0 { 5 } else { CHUNK_SLOTS + 5 };
                            let mark = 1 + round * THREADS + thread;
                            let new = if round % 3 == 0 { SlotEntry::EMPTY } else { entry(mark) };
                            let mut old = slots.get(slot);
                            while let Err(ExchangeError::Changed(now)) =
                                slots.compare_exchange(slot, old, new)
                            {
                                old = now;
                            }
                            let value = |entry: SlotEntry| {
                                if let EntryKind::Stored(StoredPage::Same(mark)) = entry.kind() {
                                    u64::from(mark)
                                } else {
                                    0
                                }
                            };
                            put += value(new);
                            taken += value(old);
                        }
                        (put, taken)
                    }
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
    });
    let left: u64 = [5, CHUNK_SLOTS + 5]
        .map(|slot| {
            if let EntryKind::Stored(StoredPage::Same(mark)) = slots.get(slot).kind() {
                u64::from(mark)
            } else {
                0
            }
        })
        .iter()
        .sum();
    let (put, taken) = stats.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert_eq!(put, taken + left);
    for chunk in 0..2 {
        let occupied = (0..CHUNK_SLOTS)
            .filter(|at| slots.get(chunk * CHUNK_SLOTS + at) != SlotEntry::EMPTY)
            .count();
        assert_eq!(slots.occupied(chunk), occupied);
    }
}
