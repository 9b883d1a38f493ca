//! The slot protocol under loom: the real code with two slots per chunk.

use frames::{FrameCount, ZoneConfig};
use page::StoredPage;
use sync::{Arc, model, thread};

use super::super::*;

fn zone() -> std::sync::Arc<Zone> {
    let config =
        ZoneConfig { capacity: FrameCount(8), backing: Backing::Heap, ..ZoneConfig::default() };
    std::sync::Arc::new(Zone::new(config).expect("a tiny zone"))
}

fn entry(pattern: u32) -> SlotEntry {
    StoredPage::Same(pattern).into()
}

/// Puts `new` in the slot and returns the entry it replaces.
fn put(slots: &Slots, slot: usize, new: SlotEntry) -> SlotEntry {
    let mut old = slots.get(slot);
    while let Err(ExchangeError::Changed(now)) = slots.compare_exchange(slot, old, new) {
        old = now;
    }
    old
}

fn counts_match(slots: &Slots) {
    for chunk in 0..slots.len() / CHUNK_SLOTS {
        let occupied = (0..CHUNK_SLOTS)
            .filter(|at| slots.get(chunk * CHUNK_SLOTS + at) != SlotEntry::EMPTY)
            .count();
        assert_eq!(slots.occupied(chunk), occupied, "chunk {chunk} counts what it holds");
    }
}

/// INV-SLOT-2: a chunk that is decommitted while another thread writes to it loses no entry.
#[test]
fn an_entry_written_during_a_decommit_stays() {
    model(|| {
        let slots = Arc::new(Slots::new(zone(), 4, Backing::Heap).expect("a small table"));
        put(&slots, 0, entry(1));
        put(&slots, 2, entry(2));
        put(&slots, 0, SlotEntry::EMPTY);
        let writer = thread::spawn({
            let slots = Arc::clone(&slots);
            move || put(&slots, 1, entry(3))
        });
        // The second chunk empties, so the first one is decommitted unless the writer has entered
        // it.
        put(&slots, 2, SlotEntry::EMPTY);
        assert_eq!(writer.join().expect("no panic"), SlotEntry::EMPTY);
        assert_eq!(slots.get(1), entry(3), "the entry that was written stays");
        counts_match(&slots);
    });
}

/// Z9, INV-SLOT-3: of two overwrites and a discard, each replaced entry goes to one thread.
#[test]
fn a_replaced_entry_is_freed_by_one_thread() {
    model(|| {
        let slots = Arc::new(Slots::new(zone(), 2, Backing::Heap).expect("a small table"));
        put(&slots, 0, entry(1));
        let other = thread::spawn({
            let slots = Arc::clone(&slots);
            move || put(&slots, 0, entry(2))
        });
        let mine = put(&slots, 0, SlotEntry::EMPTY);
        let other_old = other.join().expect("no panic");
        let left = slots.get(0);
        let mut seen = vec![mine, other_old, left];
        seen.retain(|&entry| entry != SlotEntry::EMPTY);
        seen.sort_by_key(|entry| entry.to_bits());
        assert_eq!(seen, vec![entry(1), entry(2)], "each entry is replaced once");
        counts_match(&slots);
    });
}

/// INV-SLOT-1: two threads empty the two slots of one chunk, while a slot of the other chunk is
/// filled and emptied.
#[test]
fn an_empty_chunk_is_decommitted_once() {
    model(|| {
        let slots = Arc::new(Slots::new(zone(), 4, Backing::Heap).expect("a small table"));
        put(&slots, 0, entry(1));
        put(&slots, 1, entry(2));
        put(&slots, 2, entry(3));
        let other = thread::spawn({
            let slots = Arc::clone(&slots);
            move || put(&slots, 0, SlotEntry::EMPTY)
        });
        put(&slots, 1, SlotEntry::EMPTY);
        put(&slots, 2, SlotEntry::EMPTY);
        assert_eq!(other.join().expect("no panic"), entry(1));
        counts_match(&slots);
        // The idle chunk keeps its memory; the other one is decommitted.
        assert_eq!(slots.bytes(), GROUP_BYTES + CHUNK_BYTES);
    });
}

/// Either a write spends the slot's reservation, or a discard releases it, once. The steps are
/// those of `Inner::store_reserved` and `Inner::set_entry`.
#[test]
fn a_reservation_is_spent_or_released_once() {
    model(|| {
        let slots = Arc::new(Slots::new(zone(), 2, Backing::Heap).expect("a small table"));
        let reserved = Arc::new(AtomicU32::new(1));
        put(&slots, 0, SlotEntry::RESERVED);
        // Relaxed: a count.
        let displace = |slots: &Slots, reserved: &AtomicU32, new: SlotEntry| {
            if put(slots, 0, new) == SlotEntry::RESERVED {
                reserved.fetch_sub(1, Ordering::Relaxed);
            }
        };
        let writer = thread::spawn({
            let (slots, reserved) = (Arc::clone(&slots), Arc::clone(&reserved));
            move || {
                let claimed =
                    slots.compare_exchange(0, SlotEntry::RESERVED, SlotEntry::ZEROS).is_ok();
                if claimed {
                    // The real code takes the frame here, which spends the reservation.
                    reserved.fetch_sub(1, Ordering::Relaxed);
                }
                displace(&slots, &reserved, entry(7));
                claimed
            }
        });
        displace(&slots, &reserved, SlotEntry::EMPTY);
        let _ = writer.join().expect("no panic");
        assert_eq!(reserved.load(Ordering::Relaxed), 0, "spent or released exactly once");
        counts_match(&slots);
    });
}

/// A write that could not use the reservation puts it back, unless another thread has replaced
/// the entry meanwhile.
#[test]
fn a_reservation_is_put_back_once() {
    model(|| {
        let slots = Arc::new(Slots::new(zone(), 2, Backing::Heap).expect("a small table"));
        let reserved = Arc::new(AtomicU32::new(1));
        put(&slots, 0, SlotEntry::RESERVED);
        let writer = thread::spawn({
            let (slots, reserved) = (Arc::clone(&slots), Arc::clone(&reserved));
            move || {
                if slots.compare_exchange(0, SlotEntry::RESERVED, SlotEntry::ZEROS).is_ok()
                    && slots.compare_exchange(0, SlotEntry::ZEROS, SlotEntry::RESERVED).is_err()
                {
                    reserved.fetch_sub(1, Ordering::Relaxed);
                }
            }
        });
        if put(&slots, 0, SlotEntry::EMPTY) == SlotEntry::RESERVED {
            reserved.fetch_sub(1, Ordering::Relaxed);
        }
        writer.join().expect("no panic");
        assert_eq!(reserved.load(Ordering::Relaxed), 0, "released exactly once");
        assert_eq!(slots.get(0), SlotEntry::EMPTY);
        counts_match(&slots);
    });
}

/// Sets the slot, or returns `false` when there is no memory for its chunk.
fn try_put(slots: &Slots, slot: usize, new: SlotEntry) -> bool {
    let mut old = slots.get(slot);
    loop {
        match slots.compare_exchange(slot, old, new) {
            Ok(()) => return true,
            Err(ExchangeError::Changed(now)) => old = now,
            Err(ExchangeError::NoMemory) => return false,
        }
    }
}

/// Returns a table of three chunks whose zone allows `bytes` more.
fn with_memory(bytes: u64) -> (Arc<Slots>, std::sync::Arc<Zone>) {
    let zone = zone();
    let slots = Slots::new(std::sync::Arc::clone(&zone), 3 * CHUNK_SLOTS, Backing::Heap)
        .expect("a small table");
    zone.set_memory_limit(Some(zone.stats().memory_bytes + bytes));
    (Arc::new(slots), zone)
}

/// Checks that the charge is the table's memory, and zero after the table is dropped.
fn charges_match(slots: Arc<Slots>, zone: &Zone) {
    counts_match(&slots);
    assert_eq!(zone.stats().charged_bytes, slots.bytes(), "the charge is the table's memory");
    zone.check().expect("consistent");
    drop(slots);
    assert_eq!(zone.stats().charged_bytes, 0, "nothing leaks");
}

/// Z9: two writers at the memory limit, with memory for the chunk of one of them: the charge of
/// the other fails, and its slot stays empty.
#[test]
fn one_of_two_charges_at_the_limit_fails() {
    model(|| {
        let (slots, zone) = with_memory(GROUP_BYTES + CHUNK_BYTES);
        let other = thread::spawn({
            let slots = Arc::clone(&slots);
            move || try_put(&slots, 0, entry(1))
        });
        let mine = try_put(&slots, CHUNK_SLOTS, entry(2));
        let other_ok = other.join().expect("no panic");
        assert!(mine != other_ok, "memory for one chunk: {mine} and {other_ok}");
        assert_eq!(slots.get(0), if other_ok { entry(1) } else { SlotEntry::EMPTY });
        assert_eq!(slots.get(CHUNK_SLOTS), if mine { entry(2) } else { SlotEntry::EMPTY });
        assert_eq!(zone.memory().available, 0);
        charges_match(slots, &zone);
    });
}

/// Two writers charge one chunk: the one whose compare-and-swap fails returns its charge.
#[test]
fn a_chunk_that_two_writers_charge_counts_once() {
    model(|| {
        let (slots, zone) = with_memory(2 * (GROUP_BYTES + CHUNK_BYTES));
        let other = thread::spawn({
            let slots = Arc::clone(&slots);
            move || try_put(&slots, 0, entry(1))
        });
        assert!(try_put(&slots, 1, entry(2)) && other.join().expect("no panic"), "memory for both");
        assert_eq!(slots.bytes(), GROUP_BYTES + CHUNK_BYTES);
        charges_match(slots, &zone);
    });
}

/// The same with memory for one charge: a writer that charges between the other's charge and its
/// compare-and-swap may be refused; the other writer is not.
#[test]
fn a_chunk_with_memory_for_one_charge_counts_once() {
    model(|| {
        let (slots, zone) = with_memory(GROUP_BYTES + CHUNK_BYTES);
        let other = thread::spawn({
            let slots = Arc::clone(&slots);
            move || try_put(&slots, 0, entry(1))
        });
        let mine = try_put(&slots, 1, entry(2));
        assert!(other.join().expect("no panic") || mine, "one of them could charge the chunk");
        assert!(
            try_put(&slots, 0, entry(3)) && try_put(&slots, 1, entry(4)),
            "the chunk is charged now"
        );
        charges_match(slots, &zone);
    });
}

/// At the limit a chunk is decommitted while another one is charged: the charge succeeds or
/// fails, and the accounts match.
#[test]
fn a_charge_during_a_decommit_matches_the_table() {
    model(|| {
        let (slots, zone) = with_memory(GROUP_BYTES + 2 * CHUNK_BYTES);
        assert!(try_put(&slots, 0, entry(1)) && try_put(&slots, CHUNK_SLOTS, entry(2)));
        assert!(!try_put(&slots, 2 * CHUNK_SLOTS, entry(3)), "no memory for a third chunk");
        let other = thread::spawn({
            let slots = Arc::clone(&slots);
            move || try_put(&slots, 2 * CHUNK_SLOTS, entry(3))
        });
        // Emptying the second chunk decommits the first one.
        assert!(
            try_put(&slots, 0, SlotEntry::EMPTY) && try_put(&slots, CHUNK_SLOTS, SlotEntry::EMPTY)
        );
        if !other.join().expect("no panic") {
            assert!(try_put(&slots, 2 * CHUNK_SLOTS, entry(3)), "the first chunk's memory is free");
        }
        assert_eq!(zone.memory().available, 0, "the idle chunk and the third one");
        charges_match(slots, &zone);
    });
}
