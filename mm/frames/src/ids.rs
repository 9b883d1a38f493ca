//! An allocator of table indices: dense, and a free one is found in a few instructions.
//!
//! Indices come in *chunks*, so that their records fill whole OS pages. When a chunk has become
//! empty, a callback of the owner releases the memory of its records.
//!
//! ```text
//!  fresh --open--> partial <--> full
//!                   |  ^  ^
//!           emptied v  |  | reopened
//!             emptied -+  |           records still there: IdAllocator::release_emptied
//!                   |     |
//!                   +--> vacant       records released
//! ```
//! Releasing records calls the OS, which a thread that holds a lock must not do. Such a thread
//! leaves the emptied chunk in a queue; the next allocation may reuse it as it is.

use sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use sync::{Mutex, this_shard};
use sys::{Backing, MapError, Table};
use thiserror::Error;

const WORDS: usize = if cfg!(loom) { 1 } else { 32 };
const BITS: usize = if cfg!(loom) { 4 } else { 64 };

/// The indices in a chunk. Records of `n` bytes make a chunk of `n * CHUNK` bytes: whole pages of
/// 4 KiB for every even `n`. Records that fill no whole page are zeroed and stay.
pub const CHUNK: usize = WORDS * BITS;

const ALL_WORDS: u32 = (u32::MAX as u64 >> (32 - WORDS)) as u32;
const ALL_BITS: u64 = u64::MAX >> (64 - BITS);
const NONE: u32 = u32::MAX;

/// Memory of the set for each chunk that it ever opened. Units: bytes.
const SET_BYTES: u64 = (WORDS * size_of::<u64>() + 4 * size_of::<u32>()) as u64;

/// A chunk that is about to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewChunk {
    /// Its first index.
    pub first: usize,
    /// Memory that the set itself needs for it: none when the chunk was open before. Units: bytes.
    pub set_bytes: u64,
}

/// Why no index was allocated. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AllocIdError<E> {
    /// All indices are taken.
    #[error("all numbers are taken")]
    Exhausted,
    /// The caller's `opening` refused to open a chunk.
    #[error(transparent)]
    Refused(E),
}

/// A set of taken indices below a fixed capacity.
///
/// Locking: one mutex a shard. A thread allocates from its own shard first. Under the mutex only
/// the caller's `opening` is called, and no other lock is taken.
#[derive(Debug)]
pub struct IdAllocator {
    shards: Box<[Mutex<Shard>]>,
    /// A bit for each index: set when it is taken.
    taken: Table<AtomicU64>,
    /// A bit for each word of `taken`: set when the word has a clear bit.
    open: Table<AtomicU32>,
    /// Taken indices in a chunk.
    count: Table<AtomicU32>,
    /// The chunk after a chunk in one of its shard's lists.
    next: Table<AtomicU32>,
    /// The chunk before a chunk in its shard's list of partial chunks.
    previous: Table<AtomicU32>,
    capacity: usize,
    /// Chunks in the queues of all shards.
    emptied: AtomicU32,
}

/// The chunks of a shard: heads of lists and counts.
#[derive(Debug)]
struct Shard {
    first: u32,
    vacant: u32,
    fresh: u32,
    opened: u32,
    /// The first of the emptied chunks whose records are still there.
    emptied: u32,
    /// The number of emptied chunks whose records are being released. They are on no list.
    releasing: u32,
}

impl IdAllocator {
    /// Creates an empty set of indices `0..capacity`, spread over `shards` locks.
    ///
    /// # Errors
    /// [`MapError`] when the address space for its tables cannot be reserved.
    pub fn new(capacity: usize, shards: usize, backing: Backing) -> Result<Self, MapError> {
        let shards = shards.max(1);
        let chunks = capacity.div_ceil(CHUNK).next_multiple_of(shards);
        let shard = |number| {
            let fresh = number as u32;
            let (first, vacant, emptied) = (NONE, NONE, NONE);
            let shard = Shard { first, vacant, fresh, opened: 0, emptied, releasing: 0 };
            Mutex::ranked(sync::Rank::Shard, shard)
        };
        Ok(Self {
            shards: (0..shards).map(shard).collect(),
            taken: Table::reserve(chunks * WORDS, backing)?,
            open: Table::reserve(chunks, backing)?,
            count: Table::reserve(chunks, backing)?,
            next: Table::reserve(chunks, backing)?,
            previous: Table::reserve(chunks, backing)?,
            capacity: chunks * CHUNK,
            emptied: AtomicU32::new(0),
        })
    }

    /// Returns the number of indices, free and taken.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Allocates a free index. Before it opens a chunk it calls `opening` under the shard's lock.
    ///
    /// # Errors
    /// [`AllocIdError`]; nothing has changed then.
    pub fn alloc<E>(
        &self,
        opening: impl Fn(NewChunk) -> Result<(), E>,
    ) -> Result<u32, AllocIdError<E>> {
        let home = this_shard(self.shards.len());
        let mut spins = 0;
        loop {
            let (mut releasing, mut error) = (false, AllocIdError::Exhausted);
            for step in 0..self.shards.len() {
                match self.alloc_from((home + step) % self.shards.len(), &opening, &mut releasing) {
                    Ok(index) => return Ok(index),
                    Err(AllocIdError::Exhausted) => {}
                    Err(refused) => error = refused,
                }
            }
            // A chunk that is being released becomes available soon: after one system call.
            if !releasing {
                return Err(error);
            }
            sync::relax(spins);
            spins += 1;
        }
    }

    /// Allocates from one shard; sets `releasing` when a chunk of it will become available soon.
    fn alloc_from<E>(
        &self,
        number: usize,
        opening: impl Fn(NewChunk) -> Result<(), E>,
        releasing: &mut bool,
    ) -> Result<u32, AllocIdError<E>> {
        let mut shard = self.shards[number].lock();
        if shard.first == NONE {
            *releasing |= shard.releasing > 0;
            self.open_chunk(&mut shard, opening)?;
        }
        let chunk = shard.first as usize;
        // Relaxed throughout this file: every word below is accessed only under its shard's lock.
        let open = self.open[chunk].load(Relaxed);
        // Take the first free bit of the first word that has one.
        let word = chunk * WORDS + open.trailing_zeros() as usize;
        let taken = self.taken[word].load(Relaxed);
        let bit = taken.trailing_ones() as usize;
        let bits = taken | 1 << bit;
        self.taken[word].store(bits, Relaxed);
        // Keep the summaries: a full word leaves `open`, a full chunk leaves the list.
        if bits == ALL_BITS {
            let open = open & (open - 1);
            self.open[chunk].store(open, Relaxed);
            if open == 0 {
                self.unlink(&mut shard, chunk as u32);
            }
        }
        self.count[chunk].store(self.count[chunk].load(Relaxed) + 1, Relaxed);
        Ok((word * BITS + bit) as u32)
    }

    /// Opens a chunk: an emptied one, else a vacant one, else a fresh one.
    fn open_chunk<E>(
        &self,
        shard: &mut Shard,
        opening: impl Fn(NewChunk) -> Result<(), E>,
    ) -> Result<(), AllocIdError<E>> {
        if let Some(chunk) = self.pop_emptied(shard) {
            // Its records are there and charged.
            self.push(shard, chunk);
            return Ok(());
        }
        let was_open = shard.vacant != NONE;
        let chunk = if was_open { shard.vacant } else { shard.fresh };
        if chunk as usize >= self.capacity / CHUNK {
            return Err(AllocIdError::Exhausted);
        }
        let set_bytes = if was_open { 0 } else { SET_BYTES };
        let first = chunk as usize * CHUNK;
        opening(NewChunk { first, set_bytes }).map_err(AllocIdError::Refused)?;
        if was_open {
            shard.vacant = self.next[chunk as usize].load(Relaxed);
        } else {
            shard.fresh += self.shards.len() as u32;
        }
        shard.opened += 1;
        self.open[chunk as usize].store(ALL_WORDS, Relaxed);
        self.push(shard, chunk);
        Ok(())
    }

    /// Frees an index. When a chunk of its shard is emptied, by this call or by an earlier
    /// [`IdAllocator::free_without_release`], and the shard has another chunk open, one such
    /// chunk is released: `emptied` is called with its first index. None of its indices can be
    /// allocated until that returns.
    ///
    /// Locking: takes the shard's lock, a second time only when a chunk is released. `emptied` is
    /// called without it, since it may call the OS.
    ///
    /// # Panics
    /// When the index is not taken.
    pub fn free(&self, index: u32, emptied: impl FnOnce(usize)) {
        self.free_without_release(index);
        // Relaxed: this thread sees its own count; another thread's chunk is only a hint.
        if self.emptied.load(Relaxed) > 0 {
            self.release_from(index as usize / CHUNK % self.shards.len(), emptied);
        }
    }

    /// Frees an index and leaves the records of an emptied chunk for
    /// [`IdAllocator::release_emptied`]. For a thread that holds locks.
    ///
    /// # Panics
    /// When the index is not taken.
    pub fn free_without_release(&self, index: u32) {
        let chunk = index as usize / CHUNK;
        let (word, bit) = (index as usize / BITS, index as usize % BITS);
        let mut shard = self.shards[chunk % self.shards.len()].lock();
        let bits = self.taken[word].load(Relaxed);
        assert!(bits & 1 << bit != 0, "index {index} is freed but not taken");
        self.taken[word].store(bits & !(1 << bit), Relaxed);
        let open = self.open[chunk].load(Relaxed);
        if open == 0 {
            self.push(&mut shard, chunk as u32);
        }
        self.open[chunk].store(open | 1 << (word % WORDS), Relaxed);
        let count = self.count[chunk].load(Relaxed) - 1;
        self.count[chunk].store(count, Relaxed);
        let alone = shard.first == chunk as u32 && self.next[chunk].load(Relaxed) == NONE;
        // The last open chunk stays: a set that becomes empty again and again calls no OS.
        if count == 0 && !alone {
            self.unlink(&mut shard, chunk as u32);
            self.next[chunk].store(shard.emptied, Relaxed);
            shard.emptied = chunk as u32;
            self.emptied.fetch_add(1, Relaxed);
        }
    }

    /// Releases one emptied chunk as [`IdAllocator::free`] does. Returns whether there was one. One
    /// load when there is none.
    ///
    /// Locking: takes the shards' locks one after the other; `emptied` is called without a lock.
    pub fn release_emptied(&self, mut emptied: impl FnMut(usize)) -> bool {
        // Relaxed: a hint; a chunk that is missed is found by the next call.
        self.emptied.load(Relaxed) > 0
            && (0..self.shards.len()).any(|number| self.release_from(number, &mut emptied))
    }

    fn release_from(&self, number: usize, emptied: impl FnOnce(usize)) -> bool {
        let mut shard = self.shards[number].lock();
        let Some(chunk) = self.pop_emptied(&mut shard) else { return false };
        shard.releasing += 1;
        drop(shard);
        emptied(chunk as usize * CHUNK);
        // The lock orders the release before the next allocation of an index.
        let mut shard = self.shards[number].lock();
        self.next[chunk as usize].store(shard.vacant, Relaxed);
        shard.vacant = chunk;
        shard.opened -= 1;
        shard.releasing -= 1;
        true
    }

    fn pop_emptied(&self, shard: &mut Shard) -> Option<u32> {
        let chunk = Some(shard.emptied).filter(|&chunk| chunk != NONE)?;
        shard.emptied = self.next[chunk as usize].load(Relaxed);
        self.emptied.fetch_sub(1, Relaxed);
        Some(chunk)
    }

    /// Returns whether the index is taken. A snapshot, exact while no thread changes the set.
    #[must_use]
    pub fn is_taken(&self, index: u32) -> bool {
        self.taken
            .get(index as usize / BITS)
            .is_some_and(|word| word.load(Relaxed) & 1 << (index as usize % BITS) != 0)
    }

    /// Returns the number of chunks whose records are in memory.
    #[must_use]
    pub fn open_chunks(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().opened as usize).sum()
    }

    /// Returns the memory of the set itself, in bytes; the records belong to the caller.
    #[must_use]
    pub fn metadata_bytes(&self) -> usize {
        let opened = |shard: &Mutex<Shard>| shard.lock().fresh as usize / self.shards.len();
        self.shards.iter().map(opened).sum::<usize>() * SET_BYTES as usize
    }

    /// Adds a chunk to the shard's list of partial chunks.
    fn push(&self, shard: &mut Shard, chunk: u32) {
        if shard.first != NONE {
            self.previous[shard.first as usize].store(chunk, Relaxed);
        }
        self.previous[chunk as usize].store(NONE, Relaxed);
        self.next[chunk as usize].store(shard.first, Relaxed);
        shard.first = chunk;
    }

    fn unlink(&self, shard: &mut Shard, chunk: u32) {
        let next = self.next[chunk as usize].load(Relaxed);
        let previous = self.previous[chunk as usize].load(Relaxed);
        if previous == NONE {
            shard.first = next;
        } else {
            self.next[previous as usize].store(next, Relaxed);
        }
        if next != NONE {
            self.previous[next as usize].store(previous, Relaxed);
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

#[cfg(all(test, loom))]
mod tests {
    mod loom;
}
