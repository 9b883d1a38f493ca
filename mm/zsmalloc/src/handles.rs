//! The table behind handles: for each index a location word and a length.
//!
//! A word is written by whoever owns its index: the allocating thread until it publishes, then whoever holds the lock of the class the
//! object lives in (INV-POOL-2). Readers load it without a lock. When all indices of a chunk are free its words go back to the OS; the chunk's
//! *floor* remembers the highest generation used there, so that a stale handle stays stale.

use std::sync::Arc;

use frames::ids::{AllocIdError, CHUNK, IdAllocator, NewChunk};
use frames::{ChargePurpose, Zone};
use sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use sys::{Backing, MapError, Table};

use crate::handle::{Handle, Location, MAX_GENERATION};
use crate::{AccessError, AllocError};

/// In a floor: the chunk is vacant, and its words are in memory all the same.
const KEPT: u32 = 1 << 31;

const _: () = assert!(MAX_GENERATION < KEPT);

/// Memory of the words, lengths and floor of one chunk. Units: bytes.
const CHUNK_BYTES: u64 = (CHUNK * (size_of::<u64>() + size_of::<u16>()) + size_of::<u32>()) as u64;

#[derive(Debug)]
pub(crate) struct Handles {
    /// Whose memory limit the table counts against.
    zone: Arc<Zone>,
    ids: IdAllocator,
    words: Table<AtomicU64>,
    lens: Table<AtomicU16>,
    floors: Table<AtomicU32>,
    /// Chunks whose floor is marked [`KEPT`].
    kept: AtomicUsize,
    max_generation: u32,
}

impl Handles {
    /// An empty table. An index is retired after `max_generation` uses: [`MAX_GENERATION`], or fewer to see what happens then.
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

    /// Takes a free index and makes its next handle; nothing can be reached through it until [`Handles::publish`].
    pub(crate) fn reserve(&self) -> Result<Handle, AllocError> {
        self.reserve_for(ChargePurpose::General)
    }

    /// As [`Handles::reserve`], and says what its memory is for.
    pub(crate) fn reserve_for(&self, purpose: ChargePurpose) -> Result<Handle, AllocError> {
        loop {
            let index =
                self.ids.alloc(|opening| self.open(opening, purpose)).map_err(
                    |error| match error {
                        AllocIdError::Exhausted => AllocError::Numbers,
                        AllocIdError::Refused(error) => error.into(),
                    },
                )?;
            // Relaxed: between take and publish the index is ours; the shard's lock ordered us after its last owner.
            let last = Location::from_bits(self.words[index as usize].load(Ordering::Relaxed))
                .generation();
            // Relaxed: the shard's lock ordered us after `discard`, and after `open`.
            let floor = self.floors[index as usize / CHUNK].load(Ordering::Relaxed);
            let generation = last.max(floor) + 1;
            if generation <= self.max_generation {
                return Ok(Handle::new(index, generation));
            }
            // Its generations are used up. It stays taken for good: 8 bytes lost after 16 million uses.
        }
    }

    /// Charges a chunk that is about to be opened. One that kept its words is charged already.
    fn open(&self, opening: NewChunk, purpose: ChargePurpose) -> Result<(), frames::AllocError> {
        let floor = &self.floors[opening.first / CHUNK];
        // Relaxed: the shard's lock, which is held here, ordered us after `discard`; nobody else has an index of the chunk.
        if floor.load(Ordering::Relaxed) & KEPT == 0 {
            return self.zone.charge_for(CHUNK_BYTES + opening.set_bytes, purpose);
        }
        floor.fetch_and(!KEPT, Ordering::Relaxed);
        self.kept.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    /// Gives an index back that was reserved and not published. Nobody has seen the handle, so its generation is not used up.
    pub(crate) fn cancel(&self, handle: Handle) {
        self.free_index(handle);
    }

    /// Makes the object reachable. The caller holds its chain exclusively, with the bytes written.
    pub(crate) fn publish(&self, handle: Handle, location: Location, len: usize) {
        let index = handle.index() as usize;
        // Release pairs with the Acquire in `len_of`: who finds this length also finds that the index changed hands, if it did.
        self.lens[index].store(len as u16, Ordering::Release);
        // Release pairs with the Acquire in `locate`: who finds the word live finds its length too.
        self.words[index].store(location.to_bits(), Ordering::Release);
    }

    /// Where the handle's object is now.
    pub(crate) fn locate(&self, handle: Handle) -> Result<Location, AccessError> {
        let word = self.words.get(handle.index() as usize).ok_or(AccessError::Stale)?;
        // Acquire pairs with the Release in `publish` and `relocate`.
        let location = Location::from_bits(word.load(Ordering::Acquire));
        let matches = location.is_live() && location.generation() == handle.generation();
        if matches { Ok(location) } else { Err(AccessError::Stale) }
    }

    /// Starts loading the handle's word and length. Only a hint.
    pub(crate) fn prefetch(&self, handle: Handle) {
        self.prefetch_index(handle.index());
    }

    /// As [`Handles::prefetch`], for the handle of this index, whatever its generation.
    pub(crate) fn prefetch_index(&self, index: u32) {
        let index = index as usize;
        self.words.get(index).into_iter().for_each(sys::prefetch);
        self.lens.get(index).into_iter().for_each(sys::prefetch);
    }

    /// Where the object of this index is, whatever its generation.
    pub(crate) fn locate_index(&self, index: u32) -> Option<(Handle, Location)> {
        let location = Location::from_bits(self.words.get(index as usize)?.load(Ordering::Acquire));
        location.is_live().then(|| (Handle::new(index, location.generation()), location))
    }

    /// The length of an object. The caller holds its class lock, or locates the handle before and again after: only then is it this object's.
    pub(crate) fn len_of(&self, handle: Handle) -> usize {
        // Acquire pairs with the Release in `publish`, so that the second look at the word is not older than the length.
        usize::from(self.lens[handle.index() as usize].load(Ordering::Acquire))
    }

    /// Points a live handle at its object's new place. The caller holds the class lock and has written the bytes there.
    pub(crate) fn relocate(&self, handle: Handle, location: Location) {
        debug_assert_eq!(location.generation(), handle.generation());
        // Release pairs with the Acquire in `locate`: who finds the new place finds the bytes.
        self.words[handle.index() as usize].store(location.to_bits(), Ordering::Release);
    }

    /// Makes the handle stale. The caller holds the class lock.
    pub(crate) fn invalidate(&self, handle: Handle) {
        let dead = Location::dead(handle.generation());
        // Release pairs with the Acquire in `locate`; a reader that still sees the word live is inside the chain or will look again.
        self.words[handle.index() as usize].store(dead.to_bits(), Ordering::Release);
    }

    /// Frees the index of an invalidated handle.
    pub(crate) fn free_index(&self, handle: Handle) {
        self.ids.free(handle.index(), |first| self.discard(first));
    }

    /// Gives the words of an empty chunk back to the OS.
    ///
    /// One number then stands for the generations of the whole chunk. Where one index is far ahead of the others that would use theirs up with it, so such
    /// a chunk keeps its words: 20 KiB after eight million uses of one index.
    fn discard(&self, first: usize) {
        let words = &self.words[first..first + CHUNK];
        // Relaxed: all these indices are free and their chunk is leaving, so nobody takes one and writes here; the shard's lock ordered us after
        // their last owners.
        let generations =
            words.iter().map(|word| Location::from_bits(word.load(Ordering::Relaxed)).generation());
        let last = generations.max().unwrap_or(0);
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

    /// Every live handle with its location. A snapshot, exact when nobody changes the pool.
    pub(crate) fn live(&self) -> impl Iterator<Item = (Handle, Location)> {
        (0..self.ids.capacity() as u32)
            .filter(|&index| self.ids.is_taken(index))
            .filter_map(|i| self.locate_index(i))
    }

    /// Memory of the table, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        // Relaxed: a snapshot, as the count of open chunks is.
        let chunks = self.ids.open_chunks() + self.kept.load(Ordering::Relaxed);
        chunks * CHUNK_BYTES as usize + self.ids.metadata_bytes()
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        self.zone.uncharge(self.bytes() as u64);
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
