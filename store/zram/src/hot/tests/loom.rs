//! The protocol of hot pages under loom, on the real slots, chains and frames, with pages of one
//! small frame.
//!
//! A page's content is its first two bytes, and its stored form is a pattern, so that no codec is
//! needed.

use frames::{FrameCount, ZoneConfig};
use page::StoredPage;
use sync::{model, thread};

use super::super::*;
use crate::slots::ExchangeError;

struct Store {
    slots: Slots,
    hot: HotCache,
}

/// Returns the stored form of a page with this content.
fn stored(content: [u8; 2]) -> SlotEntry {
    StoredPage::Same(u32::from(u16::from_le_bytes(content))).into()
}

impl Store {
    /// Creates a store with one hot page in slot 0 and a cache of two.
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

    /// Makes slot 0 hot with this content if it still holds `old`. Returns `None` if the cache is
    /// full.
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

    /// Reads the page like a client.
    fn read(&self) -> [u8; 2] {
        loop {
            if let Some(pinned) = self.hot.pin(&self.slots, 0) {
                return [pinned[0], pinned[1]];
            }
            match self.slots.get(0).kind() {
                EntryKind::Stored(StoredPage::Same(pattern)) => {
                    return [pattern as u8, (pattern >> 8) as u8];
                }
                EntryKind::Empty => return [0, 0],
                _ => thread::yield_now(),
            }
        }
    }

    /// Writes a part of the page with the steps of the device's read-modify-write.
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

    /// Evicts the oldest page like the cache.
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

    /// Checks that each frame is the hot page's, on its list and counted, or free.
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

/// A page is written while it is evicted: the acknowledged write is in the page, stored or hot.
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

/// Two parts of one page are written at once, in place or by a merge: both arrive (Z6).
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

/// A part is written while a reader holds the page and unlocks it. The bytes the reader sees do
/// not change, and the old frame is free when both are done.
#[test]
fn a_write_beside_a_reader_that_unlocks() {
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

/// A discard frees the page under a reader: the reader sees the page or zeros, and the frame is
/// free when both are done.
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

/// A page is evicted and discarded at once: it is freed once, and the slot is empty.
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

/// A page is discarded while it is changed in place: the second of the two threads frees it.
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
