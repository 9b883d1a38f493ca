//! The slot table: one [`SlotEntry`] per page, changed only by compare-and-swap.
//!
//! The slots whose entries fill one OS page of the table are a *chunk*. Each chunk counts its
//! occupied slots. When the count drops to zero the memory of the chunk can go back to the OS.
//!
//! # Protocol
//! - empty -> occupied: enter the chunk (count + 1), then swap the slot; leave again if the swap
//!   failed.
//! - occupied -> other occupied: swap the slot. It keeps its chunk's count above zero.
//! - occupied -> empty: swap the slot, then leave the chunk (count - 1).
//! - The thread that empties a chunk stores it as the *idle* chunk and decommits the previous idle
//!   one. So a page that is written and discarded in turn does not cost a system call each time.
//!
//! ```text
//! chunk word   31  30  29                                            0
//!             +---+---+------------------------------------------------+
//!             | D | C | slots that are or will be occupied             |
//!             +---+---+------------------------------------------------+
//!              D = its memory is being decommitted, C = it may have memory
//! ```
//! A chunk with D set has no occupied slot, and no thread enters it. Readers need not check D:
//! decommitting writes zeros, and empty slots hold zeros already.
//!
//! # Memory
//! A thread that enters a chunk without memory first charges the chunk to the zone's memory limit,
//! and the page of chunk counts if no thread has used that page. Pages of counts are never
//! decommitted: 4 KiB per 2 GiB of the device. Replacing and emptying entries charge nothing.
//!
//! # Invariants
//! - INV-SLOT-1: an occupied slot is counted in its chunk.
//! - INV-SLOT-2: D is set only while the count is zero, and no slot of the chunk becomes occupied
//!   before D is cleared.
//! - INV-SLOT-3: for each entry that leaves a slot, [`Slots::compare_exchange`] succeeds for
//!   exactly one caller, so what the entry refers to is freed once (Z9).

mod entry;

use std::ops::Range;
use std::sync::Arc;

use frames::{AllocError, Zone};
use sync::atomic::{AtomicU32, AtomicU64, Ordering};
use sys::{Backing, MapError, Table};

pub(crate) use entry::{EntryKind, SlotEntry};

/// The slots in a chunk: 4 KiB of entries, one OS page on most systems. With larger pages an empty
/// chunk is zeroed but keeps its memory.
pub(crate) const CHUNK_SLOTS: usize = if cfg!(loom) { 2 } else { 512 };

const DECOMMITTING: u32 = 1 << 31;
const COMMITTED: u32 = 1 << 30;
const COUNT_MASK: u32 = COMMITTED - 1;
/// The memory of a chunk's entries. Units: bytes.
const CHUNK_BYTES: u64 = (CHUNK_SLOTS * size_of::<u64>()) as u64;
/// The chunks whose counts fill one OS page.
const GROUP_CHUNKS: usize = 1024;
/// The memory of these counts. Units: bytes.
const GROUP_BYTES: u64 = (GROUP_CHUNKS * size_of::<u32>()) as u64;
/// The value of [`Slots::idle`] when no chunk is idle.
const NO_IDLE_CHUNK: u32 = u32::MAX;

pub(crate) fn next_chunk(slot: usize) -> usize {
    (slot / CHUNK_SLOTS + 1) * CHUNK_SLOTS
}

/// Why a slot was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeError {
    /// The slot holds this entry now.
    Changed(SlotEntry),
    /// The slot is empty, and there is no memory for its chunk.
    NoMemory,
}

/// The entries of all pages of a device.
#[derive(Debug)]
pub(crate) struct Slots {
    /// The zone whose memory limit the table is charged to.
    zone: Arc<Zone>,
    words: Table<AtomicU64>,
    chunks: Table<AtomicU32>,
    /// One word per page of `chunks`: 1 if the page is charged.
    groups: Table<AtomicU32>,
    /// The chunk that emptied last, or [`NO_IDLE_CHUNK`].
    idle: AtomicU32,
    /// The number of chunks with C set.
    committed: AtomicU32,
}

impl Slots {
    /// Creates `count` empty slots, whose memory is charged to `zone`.
    pub(crate) fn new(zone: Arc<Zone>, count: usize, backing: Backing) -> Result<Self, MapError> {
        let chunks = count.div_ceil(CHUNK_SLOTS);
        Ok(Self {
            zone,
            groups: Table::reserve(chunks.div_ceil(GROUP_CHUNKS), backing)?,
            words: Table::reserve(chunks * CHUNK_SLOTS, backing)?,
            chunks: Table::reserve(chunks, backing)?,
            idle: AtomicU32::new(NO_IDLE_CHUNK),
            committed: AtomicU32::new(0),
        })
    }

    pub(crate) fn get(&self, slot: usize) -> SlotEntry {
        // Acquire pairs with the AcqRel in `swap`: the object stored before the entry is visible.
        SlotEntry::from_bits(self.words[slot].load(Ordering::Acquire))
    }

    /// Replaces `old` by `new` if the slot holds `old`. On success the caller alone may free what
    /// `old` refers to. An entry that is not empty can be replaced even at the memory limit.
    pub(crate) fn compare_exchange(
        &self,
        slot: usize,
        old: SlotEntry,
        new: SlotEntry,
    ) -> Result<(), ExchangeError> {
        // Enter before the swap, so that an occupied slot is always counted (INV-SLOT-1).
        let chunk = slot / CHUNK_SLOTS;
        let entering = old == SlotEntry::EMPTY && new != SlotEntry::EMPTY;
        if entering {
            self.acquire_chunk(chunk).map_err(|_| ExchangeError::NoMemory)?;
        }
        let swapped = self.swap(slot, old, new);
        // Leave if this call emptied the slot, or did not occupy it after all.
        let emptied = swapped.is_ok() && old != new && new == SlotEntry::EMPTY;
        if emptied || entering && swapped.is_err() {
            self.release_chunk(chunk);
        }
        swapped
    }

    fn swap(&self, slot: usize, old: SlotEntry, new: SlotEntry) -> Result<(), ExchangeError> {
        // AcqRel: Release publishes the new object to readers; Acquire pairs with the Release of
        // the thread that stored the old entry. Acquire on failure: the caller follows the entry
        // that is returned.
        self.words[slot]
            .compare_exchange(old.to_bits(), new.to_bits(), Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(|now| ExchangeError::Changed(SlotEntry::from_bits(now)))
    }

    /// Counts a slot that is about to be occupied. Spins while another thread decommits the chunk,
    /// for one system call.
    fn acquire_chunk(&self, chunk: usize) -> Result<(), AllocError> {
        let word = &self.chunks[chunk];
        let mut spins = 0;
        // Relaxed: a first guess for the compare-and-swap.
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            if seen & DECOMMITTING != 0 {
                sync::relax(spins);
                spins += 1;
                seen = word.load(Ordering::Relaxed);
                continue;
            }
            let is_first = seen & COMMITTED == 0;
            if is_first && let Err(error) = self.charge(chunk) {
                // If another thread has charged the chunk since, the chunk can be used.
                let now = word.load(Ordering::Relaxed);
                if now == seen {
                    return Err(error);
                }
                seen = now;
                continue;
            }
            // Acquire pairs with the Release at the end of `decommit_chunk`: the zeros it wrote
            // come before the entry the caller is about to store.
            let entered = (seen | COMMITTED) + 1;
            match word.compare_exchange(seen, entered, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) if is_first => {
                    // Relaxed: a statistic.
                    self.committed.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Ok(_) => return Ok(()),
                Err(now) => seen = now,
            }
            // Another thread changed the count: return the charge and look again.
            if is_first {
                self.zone.uncharge(CHUNK_BYTES);
            }
        }
    }

    /// Charges the memory of a chunk, and the page of its count if that is not charged yet.
    fn charge(&self, chunk: usize) -> Result<(), AllocError> {
        let group = &self.groups[chunk / GROUP_CHUNKS];
        // Relaxed: the word only says that the page is charged.
        if group.load(Ordering::Relaxed) == 0 {
            self.zone.charge(GROUP_BYTES)?;
            if group.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed).is_err() {
                // Another thread was first.
                self.zone.uncharge(GROUP_BYTES);
            }
        }
        self.zone.charge(CHUNK_BYTES)
    }

    /// Takes a slot that is empty again out of the chunk's count.
    fn release_chunk(&self, chunk: usize) {
        // Release pairs with the Acquire in `decommit_chunk`: our swap to empty comes before it.
        let before = self.chunks[chunk].fetch_sub(1, Ordering::Release);
        if before & COUNT_MASK != 1 {
            return;
        }
        // Relaxed: only the number is passed on; `decommit_chunk` checks the chunk itself. Each
        // chunk that empties comes here, so an empty chunk is the idle one or decommitted.
        let idle = self.idle.swap(chunk as u32, Ordering::Relaxed);
        if idle != NO_IDLE_CHUNK && idle != chunk as u32 {
            self.decommit_chunk(idle as usize);
        }
    }

    /// Decommits the chunk if it is still empty.
    fn decommit_chunk(&self, chunk: usize) {
        let word = &self.chunks[chunk];
        // Acquire pairs with the Release in `release_chunk`. Relaxed on failure: the chunk has been
        // entered or is decommitted already, and there is nothing to do.
        let (seen, marked) = (COMMITTED, DECOMMITTING);
        if word.compare_exchange(seen, marked, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return;
        }
        self.words.discard(chunk * CHUNK_SLOTS, CHUNK_SLOTS);
        // Relaxed: a statistic.
        self.committed.fetch_sub(1, Ordering::Relaxed);
        self.zone.uncharge(CHUNK_BYTES);
        // Release pairs with the Acquire in `acquire_chunk`.
        word.store(0, Ordering::Release);
    }

    /// Returns whether any slot of this slot's chunk may be occupied.
    pub(crate) fn chunk_is_used(&self, slot: usize) -> bool {
        // Acquire pairs with no particular store: the answer is a snapshot. An occupied slot that
        // any thread has seen was counted before it was occupied (INV-SLOT-1).
        self.chunks[slot / CHUNK_SLOTS].load(Ordering::Acquire) & COUNT_MASK != 0
    }

    /// Returns the slots of the range whose chunks may have occupied slots.
    pub(crate) fn used(&self, slots: Range<usize>) -> impl Iterator<Item = usize> {
        let mut slot = slots.start;
        std::iter::from_fn(move || {
            while slot < slots.end && !self.chunk_is_used(slot) {
                slot = next_chunk(slot);
            }
            let found = slot;
            slot += 1;
            (found < slots.end).then_some(found)
        })
    }

    /// Returns the number of slots in the table, in whole chunks.
    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    /// Returns how many slots of a chunk are counted as occupied.
    pub(crate) fn occupied(&self, chunk: usize) -> usize {
        // Relaxed: only checks call this, while no other thread changes the table.
        (self.chunks[chunk].load(Ordering::Relaxed) & COUNT_MASK) as usize
    }

    /// Returns the memory of the table, all of it charged. Units: bytes.
    pub(crate) fn bytes(&self) -> u64 {
        // Relaxed: statistics.
        let committed = self.committed.load(Ordering::Relaxed);
        let groups: u32 = self.groups.iter().map(|group| group.load(Ordering::Relaxed)).sum();
        u64::from(committed) * CHUNK_BYTES + u64::from(groups) * GROUP_BYTES
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        self.zone.uncharge(self.bytes());
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

#[cfg(all(test, loom))]
mod tests {
    mod loom;
}
