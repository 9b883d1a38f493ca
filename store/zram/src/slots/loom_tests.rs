//! The slot protocol under loom, on the real code with two slots a chunk.

use super::*;
use frames::{FrameCount, ZoneConfig};
use page::EntryKind;
use sync::{Arc, model, thread};

fn zone() -> std::sync::Arc<Zone> {
    let config =
        ZoneConfig { capacity: FrameCount(8), backing: Backing::Heap, ..ZoneConfig::default() };
    std::sync::Arc::new(Zone::new(config).expect("a tiny zone"))
}

fn word(pattern: u32) -> SlotEntry {
    SlotEntry::new(EntryKind::Same(pattern))
}

/// Sets the slot and returns what it displaced.
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

/// INV-SLOT-2: a chunk that is given back while another thread writes to it loses nothing.
#[test]
fn a_word_written_while_its_chunk_is_given_back_stays() {
    model(|| {
        let slots = Arc::new(Slots::new(zone(), 4, Backing::Heap).expect("a small table"));
        put(&slots, 0, word(1));
        put(&slots, 2, word(2));
        put(&slots, 0, SlotEntry::EMPTY);
        let writer = thread::spawn({
            let slots = Arc::clone(&slots);
            move || put(&slots, 1, word(3))
        });
        // The second chunk empties, so the first one is given back unless the writer is already in.
        put(&slots, 2, SlotEntry::EMPTY);
        assert_eq!(writer.join().expect("no panic"), SlotEntry::EMPTY);
        assert_eq!(slots.get(1), word(3), "the word that was written stays");
        counts_match(&slots);
    });
}

/// Z9, INV-SLOT-3: of two overwrites and a discard each displaced word goes to one thread.
#[test]
fn a_displaced_word_is_freed_by_one_thread() {
    model(|| {
        let slots = Arc::new(Slots::new(zone(), 2, Backing::Heap).expect("a small table"));
        put(&slots, 0, word(1));
        let other = thread::spawn({
            let slots = Arc::clone(&slots);
            move || put(&slots, 0, word(2))
        });
        let mine = put(&slots, 0, SlotEntry::EMPTY);
        let theirs = other.join().expect("no panic");
        let left = slots.get(0);
        let mut seen = vec![mine, theirs, left];
        seen.retain(|&word| word != SlotEntry::EMPTY);
        seen.sort_by_key(|word| word.to_bits());
        assert_eq!(seen, vec![word(1), word(2)], "each word is displaced once");
        counts_match(&slots);
    });
}

/// INV-SLOT-1: two threads that empty the two slots of one chunk, while a third page comes and goes next door.
#[test]
fn the_last_to_leave_gives_the_chunk_back_once() {
    model(|| {
        let slots = Arc::new(Slots::new(zone(), 4, Backing::Heap).expect("a small table"));
        put(&slots, 0, word(1));
        put(&slots, 1, word(2));
        put(&slots, 2, word(3));
        let other = thread::spawn({
            let slots = Arc::clone(&slots);
            move || put(&slots, 0, SlotEntry::EMPTY)
        });
        put(&slots, 1, SlotEntry::EMPTY);
        put(&slots, 2, SlotEntry::EMPTY);
        assert_eq!(other.join().expect("no panic"), word(1));
        counts_match(&slots);
        // One chunk is the idle one and keeps its memory; the other has given it back.
        assert_eq!(slots.bytes(), GROUP_BYTES + CHUNK_BYTES);
    });
}

/// A write spends what the slot reserves, or a discard gives it up: one of them, once. As `Inner::store_reserved` and `Inner::set_entry` do it.
#[test]
fn reserved_room_is_spent_or_given_up_once() {
    model(|| {
        let slots = Arc::new(Slots::new(zone(), 2, Backing::Heap).expect("a small table"));
        let room = Arc::new(AtomicU32::new(1));
        put(&slots, 0, SlotEntry::RESERVED);
        // Relaxed: a count.
        let displace = |slots: &Slots, room: &AtomicU32, new: SlotEntry| {
            if put(slots, 0, new) == SlotEntry::RESERVED {
                room.fetch_sub(1, Ordering::Relaxed);
            }
        };
        let writer = thread::spawn({
            let (slots, room) = (Arc::clone(&slots), Arc::clone(&room));
            move || {
                let claimed =
                    slots.compare_exchange(0, SlotEntry::RESERVED, SlotEntry::ZEROS).is_ok();
                if claimed {
                    // The frame is taken here: the room is spent.
                    room.fetch_sub(1, Ordering::Relaxed);
                }
                displace(&slots, &room, word(7));
                claimed
            }
        });
        displace(&slots, &room, SlotEntry::EMPTY);
        let _ = writer.join().expect("no panic");
        assert_eq!(room.load(Ordering::Relaxed), 0, "returned exactly once");
        counts_match(&slots);
    });
}

/// A write that could not use the room puts it back, unless the slot was given to something else meanwhile.
#[test]
fn room_that_is_put_back_is_not_put_back_twice() {
    model(|| {
        let slots = Arc::new(Slots::new(zone(), 2, Backing::Heap).expect("a small table"));
        let room = Arc::new(AtomicU32::new(1));
        put(&slots, 0, SlotEntry::RESERVED);
        let writer = thread::spawn({
            let (slots, room) = (Arc::clone(&slots), Arc::clone(&room));
            move || {
                if slots.compare_exchange(0, SlotEntry::RESERVED, SlotEntry::ZEROS).is_ok()
                    && slots.compare_exchange(0, SlotEntry::ZEROS, SlotEntry::RESERVED).is_err()
                {
                    room.fetch_sub(1, Ordering::Relaxed);
                }
            }
        });
        if put(&slots, 0, SlotEntry::EMPTY) == SlotEntry::RESERVED {
            room.fetch_sub(1, Ordering::Relaxed);
        }
        writer.join().expect("no panic");
        assert_eq!(room.load(Ordering::Relaxed), 0, "given up exactly once");
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

/// A table of three chunks whose zone has room for `bytes` more.
fn with_room(bytes: u64) -> (Arc<Slots>, std::sync::Arc<Zone>) {
    let zone = zone();
    let slots = Slots::new(std::sync::Arc::clone(&zone), 3 * CHUNK_SLOTS, Backing::Heap)
        .expect("a small table");
    zone.set_memory_limit(Some(zone.stats().memory_bytes + bytes));
    (Arc::new(slots), zone)
}

/// What is charged is what the table holds, now and when it has ended.
fn charges_match(slots: Arc<Slots>, zone: &Zone) {
    counts_match(&slots);
    assert_eq!(
        zone.stats().charged_bytes,
        slots.bytes(),
        "charged for what is held, and for nothing else"
    );
    zone.check().expect("consistent");
    drop(slots);
    assert_eq!(zone.stats().charged_bytes, 0, "nothing leaks");
}

/// Z9: two writers at the memory limit, with room for the chunk of one of them: the charge of the other fails, and its
/// slot stays empty.
#[test]
fn one_of_two_charges_at_the_limit_fails() {
    model(|| {
        let (slots, zone) = with_room(GROUP_BYTES + CHUNK_BYTES);
        let other = thread::spawn({
            let slots = Arc::clone(&slots);
            move || try_put(&slots, 0, word(1))
        });
        let mine = try_put(&slots, CHUNK_SLOTS, word(2));
        let theirs = other.join().expect("no panic");
        assert!(mine != theirs, "room for one: {mine} and {theirs}");
        assert_eq!(slots.get(0), if theirs { word(1) } else { SlotEntry::EMPTY });
        assert_eq!(slots.get(CHUNK_SLOTS), if mine { word(2) } else { SlotEntry::EMPTY });
        assert_eq!(zone.memory().available, 0);
        charges_match(slots, &zone);
    });
}

/// Two writers charge one chunk: the one whose compare-and-swap loses gives its charge back.
#[test]
fn a_chunk_that_two_writers_charge_counts_once() {
    model(|| {
        let (slots, zone) = with_room(2 * (GROUP_BYTES + CHUNK_BYTES));
        let other = thread::spawn({
            let slots = Arc::clone(&slots);
            move || try_put(&slots, 0, word(1))
        });
        assert!(try_put(&slots, 1, word(2)) && other.join().expect("no panic"), "room for both");
        assert_eq!(slots.bytes(), GROUP_BYTES + CHUNK_BYTES);
        charges_match(slots, &zone);
    });
}

/// The same with room for one charge: the writer that comes between the other's charge and its compare-and-swap may be
/// refused, the other one is not.
#[test]
fn a_chunk_with_room_for_one_charge_counts_once() {
    model(|| {
        let (slots, zone) = with_room(GROUP_BYTES + CHUNK_BYTES);
        let other = thread::spawn({
            let slots = Arc::clone(&slots);
            move || try_put(&slots, 0, word(1))
        });
        let mine = try_put(&slots, 1, word(2));
        assert!(other.join().expect("no panic") || mine, "one of them had all the room");
        assert!(
            try_put(&slots, 0, word(3)) && try_put(&slots, 1, word(4)),
            "the chunk is charged by now"
        );
        charges_match(slots, &zone);
    });
}

/// At the limit a chunk is given back while another one is charged: the charge finds that room, or fails.
#[test]
fn a_charge_meets_a_chunk_that_is_given_back() {
    model(|| {
        let (slots, zone) = with_room(GROUP_BYTES + 2 * CHUNK_BYTES);
        assert!(try_put(&slots, 0, word(1)) && try_put(&slots, CHUNK_SLOTS, word(2)));
        assert!(!try_put(&slots, 2 * CHUNK_SLOTS, word(3)), "no room for a third chunk");
        let other = thread::spawn({
            let slots = Arc::clone(&slots);
            move || try_put(&slots, 2 * CHUNK_SLOTS, word(3))
        });
        // The second chunk to empty makes the first one go.
        assert!(
            try_put(&slots, 0, SlotEntry::EMPTY) && try_put(&slots, CHUNK_SLOTS, SlotEntry::EMPTY)
        );
        if !other.join().expect("no panic") {
            assert!(try_put(&slots, 2 * CHUNK_SLOTS, word(3)), "room for it by now");
        }
        assert_eq!(zone.memory().available, 0, "the idle chunk and the third one");
        charges_match(slots, &zone);
    });
}
