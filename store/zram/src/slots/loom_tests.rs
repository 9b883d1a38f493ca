//! The slot protocol under loom, on the real code with two slots a chunk.

use super::*;
use frames::{FrameCount, ZoneConfig};
use page::Form;
use sync::{Arc, model, thread};

fn zone() -> std::sync::Arc<Zone> {
    let config = ZoneConfig { capacity: FrameCount(8), backing: Backing::Heap, ..ZoneConfig::default() };
    std::sync::Arc::new(Zone::new(config).expect("a tiny zone"))
}

fn word(pattern: u32) -> Stored {
    Stored::new(Form::Same(pattern))
}

/// Sets the slot and returns what it displaced.
fn put(slots: &Slots, slot: usize, new: Stored) -> Stored {
    let mut old = slots.get(slot);
    while let Err(NotReplaced::Changed(now)) = slots.replace(slot, old, new) {
        old = now;
    }
    old
}

fn counts_match(slots: &Slots) {
    for chunk in 0..slots.len() / CHUNK {
        let occupied = (0..CHUNK).filter(|at| slots.get(chunk * CHUNK + at) != Stored::EMPTY).count();
        assert_eq!(slots.counted(chunk), occupied);
    }
}

/// INV-SLOT-2: a chunk that is given back while another thread writes to it loses nothing.
#[test]
fn a_word_written_while_its_chunk_is_given_back_stays() {
    model(|| {
        let slots = Arc::new(Slots::new(zone(), 4, Backing::Heap).expect("a small table"));
        put(&slots, 0, word(1));
        put(&slots, 2, word(2));
        put(&slots, 0, Stored::EMPTY);
        let writer = thread::spawn({
            let slots = Arc::clone(&slots);
            move || put(&slots, 1, word(3))
        });
        // The second chunk empties, so the first one is given back unless the writer is already in.
        put(&slots, 2, Stored::EMPTY);
        assert_eq!(writer.join().expect("no panic"), Stored::EMPTY);
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
        let mine = put(&slots, 0, Stored::EMPTY);
        let theirs = other.join().expect("no panic");
        let left = slots.get(0);
        let mut seen = vec![mine, theirs, left];
        seen.retain(|&word| word != Stored::EMPTY);
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
            move || put(&slots, 0, Stored::EMPTY)
        });
        put(&slots, 1, Stored::EMPTY);
        put(&slots, 2, Stored::EMPTY);
        assert_eq!(other.join().expect("no panic"), word(1));
        counts_match(&slots);
        // One chunk is the idle one and keeps its memory; the other has given it back.
        assert_eq!(slots.bytes(), GROUP_BYTES + CHUNK_BYTES);
    });
}

/// A write spends what the slot reserves, or a discard gives it up: one of them, once. As `Contents::store_reserved` and `Contents::put` do it.
#[test]
fn reserved_room_is_spent_or_given_up_once() {
    model(|| {
        let slots = Arc::new(Slots::new(zone(), 2, Backing::Heap).expect("a small table"));
        let room = Arc::new(AtomicU32::new(1));
        put(&slots, 0, Stored::RESERVED);
        // Relaxed: a count.
        let displace = |slots: &Slots, room: &AtomicU32, new: Stored| {
            if put(slots, 0, new) == Stored::RESERVED {
                room.fetch_sub(1, Ordering::Relaxed);
            }
        };
        let writer = thread::spawn({
            let (slots, room) = (Arc::clone(&slots), Arc::clone(&room));
            move || {
                let claimed = slots.replace(0, Stored::RESERVED, Stored::ZEROS).is_ok();
                if claimed {
                    // The frame is taken here: the room is spent.
                    room.fetch_sub(1, Ordering::Relaxed);
                }
                displace(&slots, &room, word(7));
                claimed
            }
        });
        displace(&slots, &room, Stored::EMPTY);
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
        put(&slots, 0, Stored::RESERVED);
        let writer = thread::spawn({
            let (slots, room) = (Arc::clone(&slots), Arc::clone(&room));
            move || {
                if slots.replace(0, Stored::RESERVED, Stored::ZEROS).is_ok()
                    && slots.replace(0, Stored::ZEROS, Stored::RESERVED).is_err()
                {
                    room.fetch_sub(1, Ordering::Relaxed);
                }
            }
        });
        if put(&slots, 0, Stored::EMPTY) == Stored::RESERVED {
            room.fetch_sub(1, Ordering::Relaxed);
        }
        writer.join().expect("no panic");
        assert_eq!(room.load(Ordering::Relaxed), 0, "given up exactly once");
        assert_eq!(slots.get(0), Stored::EMPTY);
        counts_match(&slots);
    });
}
