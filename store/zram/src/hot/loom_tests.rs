//! The protocol of hot pages under loom, on the real slots, chains and frames, with pages of one small frame.
//!
//! Stored pages are patterns here, so that no codec is needed: a page's first two bytes are its content.

use frames::{FrameCount, ZoneConfig};
use sync::{model, thread};

use super::*;
use crate::slots::ExchangeError;

struct Store {
    slots: Slots,
    hot: HotCache,
}

/// What a page is stored as when it is evicted.
fn stored(content: [u8; 2]) -> SlotEntry {
    SlotEntry::new(EntryKind::Same(u32::from(u16::from_le_bytes(content))))
}

impl Store {
    /// One hot page in slot 0, in a cache of two.
    fn new() -> Arc<Self> {
        let config =
            ZoneConfig { capacity: FrameCount(8), backing: Backing::Heap, ..ZoneConfig::default() };
        let zone = Arc::new(Zone::new(config).expect("a tiny zone"));
        let hot = HotCache::new(&zone, Bytes(2 * FRAME_SIZE as u64), Backing::Heap)
            .expect("a small cache");
        let slots = Slots::new(zone, 2, Backing::Heap).expect("a small table");
        let store = Arc::new(Self { slots, hot });
        assert_eq!(store.install(SlotEntry::EMPTY, [0, 0]), Some(true));
        store
    }

    /// Makes slot 0 hot with this content if it still holds `old`; `None` when there is no room.
    fn install(&self, old: SlotEntry, content: [u8; 2]) -> Option<bool> {
        let mut page = [0; HOT_BYTES];
        page[..2].copy_from_slice(&content);
        let fresh = self.hot.admit(&self.slots, 0, &page)?;
        Some(self.replace(old, fresh.entry()))
    }

    fn replace(&self, old: SlotEntry, new: SlotEntry) -> bool {
        let done = self.slots.compare_exchange(0, old, new).is_ok();
        if let Some(chain) = if done { old } else { new }.chain() {
            self.hot.free_or_defer(&self.slots, chain);
        }
        done
    }

    /// A read of the page, as a client's.
    fn read(&self) -> [u8; 2] {
        loop {
            if let Some(pinned) = self.hot.pin(&self.slots, 0) {
                return [pinned[0], pinned[1]];
            }
            match self.slots.get(0).kind() {
                EntryKind::Same(pattern) => return [pattern as u8, (pattern >> 8) as u8],
                EntryKind::Empty => return [0, 0],
                _ => thread::yield_now(),
            }
        }
    }

    /// A write of a part of the page: the steps of the device's merge.
    fn write(&self, at: usize, byte: u8) {
        loop {
            if self.hot.write_in_place(&self.slots, 0, |page| page[at] = byte) {
                return;
            }
            let pinned = self.hot.pin(&self.slots, 0);
            let (old, mut content) = match &pinned {
                Some(pinned) => (pinned.entry(), [pinned[0], pinned[1]]),
                None => (self.slots.get(0), self.read()),
            };
            if pinned.is_none() && old.chain().is_some() {
                continue;
            }
            content[at] = byte;
            let done =
                self.install(old, content).unwrap_or_else(|| self.replace(old, stored(content)));
            if done {
                return;
            }
        }
    }

    /// The eviction of the oldest page, as the cache's.
    fn evict(&self) {
        if let Some(pinned) = self.hot.pin_oldest(&self.slots) {
            self.replace(pinned.entry(), stored([pinned[0], pinned[1]]));
        }
    }

    fn discard(&self) {
        let mut old = self.slots.get(0);
        while let Err(ExchangeError::Changed(now)) =
            self.slots.compare_exchange(0, old, SlotEntry::EMPTY)
        {
            old = now;
        }
        if let Some(chain) = old.chain() {
            self.hot.free_or_defer(&self.slots, chain);
        }
    }

    /// Each frame is the page's, on its list and counted, or free.
    fn is_sound(&self) {
        let hot = u64::from(self.slots.get(0).chain().is_some());
        let lru = self.hot.lru().expect("it has one");
        lru.check().expect("sound lists");
        let stats = lru.stats();
        assert_eq!((stats.inactive.0 + stats.active.0, self.hot.used_frames()), (hot, hot));
        let zone = self.hot.chains.zone();
        zone.check().expect("a sound zone");
        assert_eq!(zone.stats().in_use, FrameCount(hot));
    }
}

fn beside(
    store: &Arc<Store>,
    other: impl FnOnce(&Store) + Send + 'static,
) -> thread::JoinHandle<()> {
    let store = Arc::clone(store);
    thread::spawn(move || other(&store))
}

/// A page is written to while it is evicted: what was acknowledged is in the page, stored or hot.
#[test]
fn slot_update_against_eviction() {
    model(|| {
        let store = Store::new();
        let evictor = beside(&store, Store::evict);
        store.write(0, 7);
        evictor.join().expect("no panic");
        assert_eq!(store.read(), [7, 0]);
        store.is_sound();
    });
}

/// Two parts of one page are written at once, by whichever way each gets: both arrive (Z6).
#[test]
fn partial_write_against_merge() {
    model(|| {
        let store = Store::new();
        let other = beside(&store, |store| store.write(1, 9));
        store.write(0, 7);
        other.join().expect("no panic");
        assert_eq!(store.read(), [7, 9]);
        store.is_sound();
    });
}

/// A part is written while a reader is inside, or leaves: in place or beside it. The reader's bytes stand still, and the old frame goes when both left.
#[test]
fn a_write_beside_a_reader_that_leaves() {
    model(|| {
        let store = Store::new();
        let reader = store.hot.pin(&store.slots, 0).expect("hot");
        let writer = beside(&store, |store| store.write(1, 9));
        assert_eq!((reader[0], reader[1]), (0, 0));
        drop(reader);
        writer.join().expect("no panic");
        assert_eq!(store.read(), [0, 9]);
        store.is_sound();
    });
}

/// A discard takes the page away under a reader: it sees the page or nothing, and the frame is free when both are through.
#[test]
fn reader_against_discard() {
    model(|| {
        let store = Store::new();
        store.write(0, 7);
        let other = beside(&store, Store::discard);
        let seen = store.read();
        assert!(seen == [7, 0] || seen == [0, 0]);
        other.join().expect("no panic");
        assert_eq!(store.read(), [0, 0]);
        store.is_sound();
    });
}

/// A page is evicted and discarded at once: it ends once, and what it was stored as is not left in the slot.
#[test]
fn eviction_against_discard() {
    model(|| {
        let store = Store::new();
        store.write(0, 7);
        let other = beside(&store, Store::evict);
        store.discard();
        other.join().expect("no panic");
        assert_eq!(store.slots.get(0), SlotEntry::EMPTY);
        store.is_sound();
    });
}

/// A page is discarded while it is changed in place: whoever comes second ends it.
#[test]
fn a_change_in_place_against_discard() {
    model(|| {
        let store = Store::new();
        let other = beside(&store, Store::discard);
        let _ = store.hot.write_in_place(&store.slots, 0, |page| page[0] = 7);
        other.join().expect("no panic");
        assert_eq!(store.slots.get(0), SlotEntry::EMPTY);
        store.is_sound();
    });
}
