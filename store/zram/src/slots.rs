//! The slot table: one word a page, changed by compare-and-swap only.
//!
//! Slots come in *chunks* that fill one OS page of the table. Each chunk counts its occupied slots; when the count reaches zero the table's memory
//! of this chunk goes back to the OS. So the table costs what is used of it, and a discarded range costs nothing.
//!
//! # Protocol
//! - empty -> occupied: enter the chunk (count + 1), then swap the slot; leave again if the swap lost.
//! - occupied -> other occupied: swap the slot. An occupied slot keeps its chunk's count above zero.
//! - occupied -> empty: swap the slot, then leave the chunk (count - 1).
//! - Whoever leaves last remembers the chunk as the *idle* one and gives back the memory of the chunk that was idle before. One chunk of slack keeps a
//!   page that is written and discarded in turn from asking the OS each time.
//!
//! ```text
//! chunk word   31  30  29                                            0
//!             +---+---+------------------------------------------------+
//!             | D | C | slots occupied or about to be                  |
//!             +---+---+------------------------------------------------+
//!              D = its memory is being given back, C = it may have memory
//! ```
//! A chunk with D set has no occupied slot and nobody enters it. Discarding writes zeros, which is what empty slots hold anyway: readers need not
//! know.
//!
//! # Memory
//! Entering a chunk that has no memory charges it to the zone's memory limit first, together with the page of counts it is the first to use, and is refused
//! when it does not fit. Counts are not given back: 4 KiB for 2 GiB of the device. Swapping and emptying charge nothing, so they work at the limit.
//!
//! # Invariants
//! - INV-SLOT-1: an occupied slot is counted in its chunk.
//! - INV-SLOT-2: D is set only while the count is zero, and no slot of the chunk becomes occupied before D is cleared.
//! - INV-SLOT-3: [`Slots::compare_exchange`] succeeds for exactly one caller for each word that leaves a slot, so what stood behind it is freed once (Z9).

use std::sync::Arc;

use frames::{AllocError, Zone};
use page::SlotEntry;
use sync::atomic::{AtomicU32, AtomicU64, Ordering};
use sys::{Backing, MapError, Table};

/// Slots in a chunk: 4 KiB of them, which is one OS page on most systems. Where pages are larger an empty chunk is zeroed and stays.
pub(crate) const CHUNK_SLOTS: usize = if cfg!(loom) { 2 } else { 512 };

/// The first slot of the next chunk.
pub(crate) fn next_chunk(slot: usize) -> usize {
    (slot / CHUNK_SLOTS + 1) * CHUNK_SLOTS
}

const DECOMMITTING: u32 = 1 << 31;
const COMMITTED: u32 = 1 << 30;
const COUNT_MASK: u32 = COMMITTED - 1;

/// Memory of the slots of a chunk. Units: bytes.
const CHUNK_BYTES: u64 = (CHUNK_SLOTS * size_of::<u64>()) as u64;
/// Chunks whose counts fill one OS page.
const GROUP_CHUNKS: usize = 1024;
/// Memory of these counts. Units: bytes.
const GROUP_BYTES: u64 = (GROUP_CHUNKS * size_of::<u32>()) as u64;

/// Why a slot was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeError {
    /// It holds this word by now.
    Changed(SlotEntry),
    /// It is empty, and there is no memory for the part of the table it is in.
    NoMemory,
}

/// No chunk is idle.
const NO_IDLE_CHUNK: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Slots {
    /// Whose memory limit the table counts against.
    zone: Arc<Zone>,
    words: Table<AtomicU64>,
    chunks: Table<AtomicU32>,
    /// 1 for each page of `chunks` that is charged.
    groups: Table<AtomicU32>,
    /// How many of them there are.
    charged_groups: AtomicU32,
    /// The chunk that was the last to empty.
    idle: AtomicU32,
    /// Chunks with C set.
    committed: AtomicU32,
}

impl Slots {
    /// `count` empty slots, whose memory counts against the limit of `zone`.
    pub(crate) fn new(zone: Arc<Zone>, count: usize, backing: Backing) -> Result<Self, MapError> {
        let chunks = count.div_ceil(CHUNK_SLOTS);
        Ok(Self {
            zone,
            groups: Table::reserve(chunks.div_ceil(GROUP_CHUNKS), backing)?,
            charged_groups: AtomicU32::new(0),
            words: Table::reserve(chunks * CHUNK_SLOTS, backing)?,
            chunks: Table::reserve(chunks, backing)?,
            idle: AtomicU32::new(NO_IDLE_CHUNK),
            committed: AtomicU32::new(0),
        })
    }

    /// What the slot holds now.
    pub(crate) fn get(&self, slot: usize) -> SlotEntry {
        // Acquire pairs with the AcqRel swap in `compare_exchange`: what was stored before the word was swapped in is seen.
        SlotEntry::from_bits(self.words[slot].load(Ordering::Acquire))
    }

    /// Swaps `new` in if the slot holds `old`.
    ///
    /// On success `old` is the caller's to free, and nobody else's. On failure nothing has changed. A word that is not empty is always replaced, also at the
    /// memory limit.
    pub(crate) fn compare_exchange(
        &self,
        slot: usize,
        old: SlotEntry,
        new: SlotEntry,
    ) -> Result<(), ExchangeError> {
        let chunk = slot / CHUNK_SLOTS;
        let entering = old == SlotEntry::EMPTY && new != SlotEntry::EMPTY;
        if entering {
            self.acquire_chunk(chunk).map_err(|_| ExchangeError::NoMemory)?;
        }
        let swapped = self.swap(slot, old, new);
        let leaving = if entering {
            swapped.is_err()
        } else {
            swapped.is_ok() && old != new && new == SlotEntry::EMPTY
        };
        if leaving {
            self.release_chunk(chunk);
        }
        swapped
    }

    fn swap(&self, slot: usize, old: SlotEntry, new: SlotEntry) -> Result<(), ExchangeError> {
        // AcqRel: Release hands the new object to readers, Acquire takes the old one over from whoever stored it. Acquire on failure: the word that is
        // returned will be followed.
        self.words[slot]
            .compare_exchange(old.to_bits(), new.to_bits(), Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(|now| ExchangeError::Changed(SlotEntry::from_bits(now)))
    }

    /// Counts a slot that is about to be occupied. Waits while the chunk's memory is being given back: one system call.
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
                // Another thread may have charged the chunk meanwhile: then it is there for both.
                let now = word.load(Ordering::Relaxed);
                if now == seen {
                    return Err(error);
                }
                seen = now;
                continue;
            }
            // Acquire pairs with the Release at the end of `decommit_chunk`: the zeros it wrote come before the word we are going to swap in.
            match word.compare_exchange(
                seen,
                (seen | COMMITTED) + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) if is_first => break,
                Ok(_) => return Ok(()),
                Err(now) => seen = now,
            }
            if is_first {
                self.zone.uncharge(CHUNK_BYTES);
            }
        }
        // Relaxed: a statistic.
        self.committed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Charges a chunk that is about to have memory, and the counts around it if they are the first of their page.
    fn charge(&self, chunk: usize) -> Result<(), AllocError> {
        let group = &self.groups[chunk / GROUP_CHUNKS];
        // Relaxed: the word only says that the page is charged.
        if group.load(Ordering::Relaxed) == 0 {
            self.zone.charge(GROUP_BYTES)?;
            match group.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => _ = self.charged_groups.fetch_add(1, Ordering::Relaxed),
                Err(_) => self.zone.uncharge(GROUP_BYTES),
            }
        }
        self.zone.charge(CHUNK_BYTES)
    }

    /// Takes a slot that is empty again out of the count.
    fn release_chunk(&self, chunk: usize) {
        // Release pairs with the Acquire in `decommit_chunk`: our swap to empty comes before the chunk is given back.
        let before = self.chunks[chunk].fetch_sub(1, Ordering::Release);
        if before & COUNT_MASK != 1 {
            return;
        }
        // Relaxed: the number alone is passed on; `decommit_chunk` looks at the chunk itself. Each time a chunk empties it comes through here, so an empty
        // one is either the idle one or was given back.
        let idle = self.idle.swap(chunk as u32, Ordering::Relaxed);
        if idle != NO_IDLE_CHUNK && idle != chunk as u32 {
            self.decommit_chunk(idle as usize);
        }
    }

    /// Gives the chunk's memory back if it is still empty.
    fn decommit_chunk(&self, chunk: usize) {
        let word = &self.chunks[chunk];
        // Acquire pairs with the Release in `release_chunk`. Relaxed on failure: a thread is inside, or it
        // is given back already.
        if word
            .compare_exchange(COMMITTED, DECOMMITTING, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            return;
        }
        self.words.discard(chunk * CHUNK_SLOTS, CHUNK_SLOTS);
        // Relaxed: a statistic.
        self.committed.fetch_sub(1, Ordering::Relaxed);
        self.zone.uncharge(CHUNK_BYTES);
        // Release pairs with the Acquire in `acquire_chunk`.
        word.store(0, Ordering::Release);
    }

    /// Whether any slot of this slot's chunk may be occupied.
    pub(crate) fn chunk_is_used(&self, slot: usize) -> bool {
        // Acquire pairs with nothing that matters: the answer is a snapshot, and an occupied slot seen by anybody was counted before.
        self.chunks[slot / CHUNK_SLOTS].load(Ordering::Acquire) & COUNT_MASK != 0
    }

    /// How many slots the table has, whole chunks.
    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    /// How many slots of a chunk are counted as occupied.
    pub(crate) fn occupied(&self, chunk: usize) -> usize {
        // Relaxed: for checks, when nobody changes the table.
        (self.chunks[chunk].load(Ordering::Relaxed) & COUNT_MASK) as usize
    }

    /// Memory of the table in bytes: the chunks in use, and the pages of counts that were ever used. All of it is charged.
    pub(crate) fn bytes(&self) -> u64 {
        // Relaxed: statistics.
        let committed = u64::from(self.committed.load(Ordering::Relaxed));
        let groups = u64::from(self.charged_groups.load(Ordering::Relaxed));
        committed * CHUNK_BYTES + groups * GROUP_BYTES
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
mod loom_tests;
