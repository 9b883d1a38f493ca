use super::*;
use frames::{FrameCount, ZoneConfig};
use page::EntryKind;

fn zone() -> Arc<Zone> {
    let config =
        ZoneConfig { capacity: FrameCount(8), backing: Backing::Heap, ..ZoneConfig::default() };
    Arc::new(Zone::new(config).expect("a tiny zone"))
}

fn word(pattern: u32) -> SlotEntry {
    SlotEntry::new(EntryKind::Same(pattern))
}

fn slots(count: usize) -> Slots {
    Slots::new(zone(), count, Backing::AnonymousSmall).expect("a small table")
}

#[test]
fn a_swap_that_lost_tells_what_is_there_and_changes_nothing() {
    let slots = slots(10);
    assert_eq!(slots.compare_exchange(3, SlotEntry::EMPTY, word(1)), Ok(()));
    assert_eq!(
        slots.compare_exchange(3, SlotEntry::EMPTY, word(2)),
        Err(ExchangeError::Changed(word(1)))
    );
    assert_eq!(
        slots.compare_exchange(3, word(2), SlotEntry::EMPTY),
        Err(ExchangeError::Changed(word(1)))
    );
    assert_eq!((slots.get(3), slots.occupied(0)), (word(1), 1));
    assert_eq!(slots.compare_exchange(4, SlotEntry::EMPTY, SlotEntry::EMPTY), Ok(()));
    assert_eq!(slots.occupied(0), 1);
}

/// At the limit an empty chunk is not entered, and nothing has changed; one that has memory is used as ever.
#[test]
fn a_chunk_without_memory_for_it_stays_closed() {
    let zone = zone();
    let slots = Slots::new(Arc::clone(&zone), CHUNK_SLOTS * 3, Backing::AnonymousSmall)
        .expect("a small table");
    slots.compare_exchange(0, SlotEntry::EMPTY, word(1)).expect("room");
    zone.set_memory_limit(Some(zone.memory().held + CHUNK_BYTES - 1));
    assert_eq!(
        slots.compare_exchange(CHUNK_SLOTS, SlotEntry::EMPTY, word(1)),
        Err(ExchangeError::NoMemory)
    );
    assert_eq!(
        (slots.get(CHUNK_SLOTS), slots.occupied(1), slots.bytes()),
        (SlotEntry::EMPTY, 0, GROUP_BYTES + CHUNK_BYTES)
    );
    assert_eq!(slots.compare_exchange(1, SlotEntry::EMPTY, word(2)), Ok(()));
    assert_eq!(slots.compare_exchange(0, word(1), SlotEntry::EMPTY), Ok(()));
    zone.set_memory_limit(Some(zone.memory().held + CHUNK_BYTES));
    assert_eq!(slots.compare_exchange(CHUNK_SLOTS, SlotEntry::EMPTY, word(1)), Ok(()));
    assert_eq!(zone.stats().charged_bytes, slots.bytes());
    drop(slots);
    assert_eq!(zone.stats().charged_bytes, 0);
}

/// Slot memory comes with the first slot of a chunk and goes when another chunk empties after it.
#[test]
fn a_chunk_costs_memory_only_while_it_is_used() {
    let slots = slots(CHUNK_SLOTS * 3);
    let counts = GROUP_BYTES;
    let chunk = (CHUNK_SLOTS * size_of::<u64>()) as u64;
    assert_eq!(slots.bytes(), 0);
    for slot in [0, CHUNK_SLOTS, 2 * CHUNK_SLOTS] {
        slots.compare_exchange(slot, SlotEntry::EMPTY, word(7)).expect("nobody else");
    }
    assert_eq!(slots.bytes(), counts + 3 * chunk);
    slots.compare_exchange(0, word(7), SlotEntry::EMPTY).expect("nobody else");
    assert_eq!(slots.bytes(), counts + 3 * chunk, "the last one to empty stays");
    slots.compare_exchange(CHUNK_SLOTS, word(7), SlotEntry::EMPTY).expect("nobody else");
    assert_eq!(slots.bytes(), counts + 2 * chunk);
    slots.compare_exchange(CHUNK_SLOTS, SlotEntry::EMPTY, word(8)).expect("nobody else");
    slots.compare_exchange(CHUNK_SLOTS, word(8), SlotEntry::EMPTY).expect("nobody else");
    slots.compare_exchange(2 * CHUNK_SLOTS, word(7), SlotEntry::EMPTY).expect("nobody else");
    assert_eq!(slots.bytes(), counts + chunk);
    assert!((0..slots.len()).all(|slot| slots.get(slot) == SlotEntry::EMPTY));
}

/// INV-SLOT-1 to 3 under real threads: each word that enters a slot leaves it exactly once, and counts end where the slots do.
#[test]
fn z9_every_displaced_word_goes_to_exactly_one_thread() {
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
                            let new = if round % 3 == 0 { SlotEntry::EMPTY } else { word(mark) };
                            let mut old = slots.get(slot);
                            while let Err(ExchangeError::Changed(now)) =
                                slots.compare_exchange(slot, old, new)
                            {
                                old = now;
                            }
                            let value = |word: SlotEntry| {
                                if let EntryKind::Same(mark) = word.kind() {
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
    let left: u64 =
        [5, CHUNK_SLOTS + 5]
            .map(|slot| {
                if let EntryKind::Same(mark) = slots.get(slot).kind() { u64::from(mark) } else { 0 }
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
