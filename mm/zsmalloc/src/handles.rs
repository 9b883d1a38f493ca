//! The handle table: a location word and a length for each index.
//!
//! Each word has one writer at a time: the allocating thread until it publishes the word, then
//! the holder of the lock of the object's class (INV-POOL-2). Readers load words without a lock.
//! When all indices of a chunk are free, its words go back to the OS. The chunk's *floor* keeps
//! the highest generation used in it, so that stale handles stay stale.

use std::sync::Arc;

use frames::ids::{CHUNK, IdAllocator, NewChunk};
use frames::{ChainId, ChargePurpose, Zone};
use sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use sys::{Backing, MapError, Table};

use crate::error::{AccessError, AllocError};
use crate::handle::{Handle, Location, MAX_GENERATION};

/// Flag in a floor: the chunk is vacant, and its words are still in memory.
const KEPT: u32 = 1 << 31;

const _: () = assert!(MAX_GENERATION < KEPT);

/// Memory of one chunk: words, lengths and floor. Units: bytes.
const CHUNK_BYTES: u64 = (CHUNK * (size_of::<u64>() + size_of::<u16>()) + size_of::<u32>()) as u64;

/// The handle table of a pool.
#[derive(Debug)]
pub(crate) struct Handles {
    /// Zone whose memory limit the table is charged to.
    zone: Arc<Zone>,
    ids: IdAllocator,
    words: Table<AtomicU64>,
    lens: Table<AtomicU16>,
    floors: Table<AtomicU32>,
    /// Number of chunks whose floor has the [`KEPT`] flag.
    kept: AtomicUsize,
    max_generation: u32,
}

impl Handles {
    /// Builds an empty table. An index is retired after `max_generation` uses, fewer in tests.
    pub(crate) fn new(
        zone: Arc<Zone>,
        capacity: usize,
        max_generation: u32,
        backing: Backing,
    ) -> Result<Self, MapError> {
        debug_assert!((1..=MAX_GENERATION).contains(&max_generation));
        let ids =
            IdAllocator::new(capacity, sync::default_shards(sys::host::cpus().min(8)), backing)?;
        Ok(Self {
            zone,
            words: Table::reserve(ids.capacity(), backing)?,
            lens: Table::reserve(ids.capacity(), backing)?,
            floors: Table::reserve(ids.capacity() / CHUNK, backing)?,
            kept: AtomicUsize::new(0),
            max_generation,
            ids,
        })
    }

    /// Takes a free index and returns its next handle, which is stale until [`Handles::publish`].
    pub(crate) fn reserve(&self) -> Result<Handle, AllocError> {
        self.reserve_for(ChargePurpose::General)
    }

    /// Reserves like [`Handles::reserve`] and charges a new chunk for `purpose`.
    pub(crate) fn reserve_for(&self, purpose: ChargePurpose) -> Result<Handle, AllocError> {
        loop {
            let index = self.ids.alloc(|new| self.open(new, purpose))?;
            // Relaxed: between reserve and publish this thread owns the index. The shard's lock
            // ordered this load after the last owner's stores.
            let last = Location(self.words[index as usize].load(Ordering::Relaxed)).generation();
            // Relaxed: the shard's lock ordered this load after the stores in `discard` and `open`.
            let floor = self.floors[index as usize / CHUNK].load(Ordering::Relaxed);
            let generation = last.max(floor) + 1;
            if generation <= self.max_generation {
                return Ok(Handle::new(index, generation));
            }
            // All generations are used up: the index stays taken, 8 bytes after 16 million uses.
        }
    }

    /// Charges a chunk that is about to be opened, unless it kept its words and their charge.
    fn open(&self, opening: NewChunk, purpose: ChargePurpose) -> Result<(), frames::AllocError> {
        let floor = &self.floors[opening.first / CHUNK];
        // Relaxed: the shard's lock, which is held, ordered this load after `discard`; no other
        // thread has an index of the chunk.
        if floor.load(Ordering::Relaxed) & KEPT == 0 {
            return self.zone.charge_for(CHUNK_BYTES + opening.set_bytes, purpose);
        }
        floor.fetch_and(!KEPT, Ordering::Relaxed);
        self.kept.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    /// Makes the object reachable. The caller holds its chain exclusively and wrote the bytes.
    pub(crate) fn publish(&self, handle: Handle, location: Location, len: usize) {
        let index = handle.index() as usize;
        // Release pairs with the Acquire in `len_of`: a thread that loads this length also sees
        // that the index was freed and reserved again, if it was.
        self.lens[index].store(len as u16, Ordering::Release);
        // Release pairs with the Acquire in `locate_index`: a live word's length is seen, too.
        self.words[index].store(location.0, Ordering::Release);
    }

    /// Returns the current location of the handle's object, or [`AccessError::Stale`].
    pub(crate) fn locate(&self, handle: Handle) -> Result<Location, AccessError> {
        let (live, location) = self.locate_index(handle.index()).ok_or(AccessError::Stale)?;
        if live == handle { Ok(location) } else { Err(AccessError::Stale) }
    }

    /// Prefetches the word and the length of an index.
    pub(crate) fn prefetch(&self, index: u32) {
        let index = index as usize;
        self.words.get(index).into_iter().for_each(sys::prefetch);
        self.lens.get(index).into_iter().for_each(sys::prefetch);
    }

    /// Returns the live handle of an index and its object's location.
    pub(crate) fn locate_index(&self, index: u32) -> Option<(Handle, Location)> {
        // Acquire pairs with the Release in `publish`, `relocate` and `invalidate`.
        let location = Location(self.words.get(index as usize)?.load(Ordering::Acquire));
        location.is_live().then(|| (Handle::new(index, location.generation()), location))
    }

    /// Returns the length of an object. The caller holds its class lock, or locates the handle
    /// before and after this call: only then the length is this object's.
    pub(crate) fn len_of(&self, handle: Handle) -> usize {
        // Acquire pairs with the Release in `publish`: the second load of the word is not older
        // than this length.
        usize::from(self.lens[handle.index() as usize].load(Ordering::Acquire))
    }

    /// Points a handle at its new slot. The caller holds the class lock and wrote the bytes.
    pub(crate) fn relocate(&self, handle: Handle, chain: ChainId, object: u16) {
        let location = Location::live(chain, object, handle.generation());
        // Release pairs with the Acquire in `locate_index`: the new slot's bytes are seen, too.
        self.words[handle.index() as usize].store(location.0, Ordering::Release);
    }

    /// Makes the handle stale. The caller holds the class lock.
    pub(crate) fn invalidate(&self, handle: Handle) {
        let dead = Location::dead(handle.generation());
        // Release pairs with the Acquire in `locate_index`. A reader that still finds the word
        // live holds the chain or loads the word again.
        self.words[handle.index() as usize].store(dead.0, Ordering::Release);
    }

    /// Frees the index of an invalidated handle, or of one that was reserved and not published.
    /// The latter is not known anywhere, so its generation can be used again.
    pub(crate) fn free_index(&self, handle: Handle) {
        self.ids.free(handle.index(), |first| self.discard(first));
    }

    /// Returns the words of an empty chunk to the OS.
    ///
    /// One floor then stands for all generations of the chunk. If one index is far ahead, the
    /// floor would use up the generations of the others. Such a chunk keeps its words: 20 KiB
    /// after eight million uses of one index.
    fn discard(&self, first: usize) {
        let words = &self.words[first..first + CHUNK];
        // Relaxed: all these indices are free and their chunk is being closed, so no thread takes
        // one and writes here. The shard's lock ordered this load after their last owners'
        // stores.
        let generation = |word: &AtomicU64| Location(word.load(Ordering::Relaxed)).generation();
        let last = words.iter().map(generation).max().unwrap_or(0);
        let floor = &self.floors[first / CHUNK];
        if last > self.max_generation / 2 {
            floor.fetch_or(KEPT, Ordering::Relaxed);
            self.kept.fetch_add(1, Ordering::Relaxed);
            return;
        }
        floor.fetch_max(last, Ordering::Relaxed);
        self.words.discard(first, CHUNK);
        self.lens.discard(first, CHUNK);
        self.zone.uncharge(CHUNK_BYTES);
    }

    /// Iterates over the live handles and their locations: a snapshot, exact in a quiet pool.
    pub(crate) fn live(&self) -> impl Iterator<Item = (Handle, Location)> {
        (0..self.ids.capacity() as u32)
            .filter(|&index| self.ids.is_taken(index))
            .filter_map(|i| self.locate_index(i))
    }

    /// Returns the memory of the table. Units: bytes.
    pub(crate) fn bytes(&self) -> usize {
        // Relaxed: a snapshot, like the number of open chunks.
        let chunks = self.ids.open_chunks() + self.kept.load(Ordering::Relaxed);
        chunks * CHUNK_BYTES as usize + self.ids.metadata_bytes()
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        self.zone.uncharge(self.bytes() as u64);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

#[cfg(all(test, loom))]
mod tests {
    mod loom;
}
