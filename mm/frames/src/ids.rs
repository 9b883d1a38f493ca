//! Which indices of a table are taken: handed out densely, found again in a few instructions, counted by the byte.
//!
//! Indices come in *chunks*, so that the records they stand for fill whole OS pages. A chunk that empties is reported to its owner, who gives
//! the records' memory back; it is used again before a fresh one is opened.
//!
//! ```text
//!  fresh --open--> partial <--> full
//!                   |  ^  ^
//!           emptied v  |  | reopened
//!             emptied -+  |           records are still there, given back by IdAllocator::release_emptied
//!                   |     |
//!                   +--> vacant       records given back
//! ```
//! Giving the records back calls the OS, which a thread that holds a lock must not do. Such a thread
//! leaves the emptied chunk in a queue; a taker may have it back from there as it is.

use sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use sync::{Mutex, this_shard};
use sys::{Backing, MapError, Table};

#[cfg(not(loom))]
const WORDS: usize = 32;
#[cfg(not(loom))]
const BITS: usize = 64;
#[cfg(loom)]
const WORDS: usize = 1;
#[cfg(loom)]
const BITS: usize = 4;

/// Indices in a chunk. A record of `n` bytes makes a chunk of `n * CHUNK` bytes: whole pages of 4 KiB for every even `n`. Where pages
/// are larger, records of a chunk that fill no whole page are zeroed and stay.
pub const CHUNK: usize = WORDS * BITS;

const ALL_WORDS: u32 = (u32::MAX as u64 >> (32 - WORDS)) as u32;
const ALL_BITS: u64 = u64::MAX >> (64 - BITS);
const NONE: u32 = u32::MAX;

/// Memory of the set for each chunk it ever opened. Units: bytes.
const SET_BYTES: u64 = (WORDS * size_of::<u64>() + 2 * size_of::<u32>() + size_of::<u64>()) as u64;

/// A chunk that is about to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewChunk {
    /// Its first index.
    pub first: usize,
    /// Memory the set itself needs for it: none when the chunk was open before. Units: bytes.
    pub set_bytes: u64,
}

/// Why no index was taken. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocIdError<E> {
    /// All are taken.
    Exhausted,
    /// A chunk would have to be opened, and its owner did not want that.
    Refused(E),
}

/// A set of taken indices below a fixed capacity.
///
/// Locking: one mutex a shard; a thread keeps to its own shard when it takes. Nothing else is locked or called under it but the owner's `opening`
/// callback.
#[derive(Debug)]
pub struct IdAllocator {
    shards: Box<[Mutex<Shard>]>,
    /// One bit an index: set = taken. Only the shard that owns the chunk touches its words.
    taken: Table<AtomicU64>,
    /// One bit a word of `taken`: set = the word has a clear bit.
    open: Table<AtomicU32>,
    /// Taken indices in a chunk.
    count: Table<AtomicU32>,
    /// Neighbours of a chunk in its shard's list of partial chunks, or the next vacant one.
    links: Table<AtomicU64>,
    capacity: usize,
    /// Chunks in the queues of all shards.
    emptied: AtomicU32,
}

#[derive(Debug)]
struct Shard {
    first: u32,
    vacant: u32,
    fresh: u32,
    opened: u32,
    /// Emptied chunks whose records are still there: the first of a list.
    emptied: u32,
    /// Emptied chunks whose records are being given back: on no list, so none of their indices can
    /// be taken.
    releasing: u32,
}

impl IdAllocator {
    /// An empty set of indices `0..capacity`, spread over `shards` locks.
    ///
    /// # Errors
    /// [`MapError`] when the address space for its tables cannot be reserved.
    pub fn new(capacity: usize, shards: usize, backing: Backing) -> Result<Self, MapError> {
        let shards = shards.max(1);
        let chunks = capacity.div_ceil(CHUNK).next_multiple_of(shards);
        let shard = |number| {
            Mutex::ranked(
                sync::Rank::Shard,
                Shard {
                    first: NONE,
                    vacant: NONE,
                    fresh: number as u32,
                    opened: 0,
                    emptied: NONE,
                    releasing: 0,
                },
            )
        };
        Ok(Self {
            shards: (0..shards).map(shard).collect(),
            taken: Table::reserve(chunks * WORDS, backing)?,
            open: Table::reserve(chunks, backing)?,
            count: Table::reserve(chunks, backing)?,
            links: Table::reserve(chunks, backing)?,
            capacity: chunks * CHUNK,
            emptied: AtomicU32::new(0),
        })
    }

    /// How many indices there can be.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Takes a free index. When that opens a chunk, `opening` is called before, under the shard's lock; it may refuse.
    ///
    /// # Errors
    /// [`AllocIdError`].
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
            // A chunk that is being released comes back in a moment: one system call.
            if !releasing {
                return Err(error);
            }
            sync::relax(spins);
            spins += 1;
        }
    }

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
        // Relaxed throughout this file: every word below is read and written under its shard's lock only.
        let open = self.open[chunk].load(Relaxed);
        let word = chunk * WORDS + open.trailing_zeros() as usize;
        let bits = self.taken[word].load(Relaxed);
        let bit = bits.trailing_ones() as usize;
        let bits = bits | 1 << bit;
        self.taken[word].store(bits, Relaxed);
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
        opening(NewChunk { first: chunk as usize * CHUNK, set_bytes })
            .map_err(AllocIdError::Refused)?;
        if was_open {
            shard.vacant = Links::of(&self.links[chunk as usize]).next;
        } else {
            shard.fresh += self.shards.len() as u32;
        }
        shard.opened += 1;
        self.open[chunk as usize].store(ALL_WORDS, Relaxed);
        self.push(shard, chunk);
        Ok(())
    }

    /// Gives an index back. When a chunk of its shard is emptied, by this call or by an earlier
    /// [`IdAllocator::free_without_release`], and the shard has another one open, the records of one such chunk go:
    /// `emptied` is called with its first index, and none of its indices can be taken until that returns.
    ///
    /// Locking: the shard, a second time only while a chunk is emptied; `emptied` is called without it,
    /// since it may call the OS.
    ///
    /// # Panics
    /// When the index is not taken: the owner checks that before.
    pub fn free(&self, index: u32, emptied: impl FnOnce(usize)) {
        self.free_without_release(index);
        // Relaxed: this thread sees what it counted itself; a chunk of another thread is a hint.
        if self.emptied.load(Relaxed) > 0 {
            self.release_from(index as usize / CHUNK % self.shards.len(), emptied);
        }
    }

    /// Gives an index back; the records of an emptied chunk stay until [`IdAllocator::release_emptied`]. For a
    /// thread that holds locks.
    ///
    /// # Panics
    /// As [`IdAllocator::free`].
    pub fn free_without_release(&self, index: u32) {
        let chunk = index as usize / CHUNK;
        let (word, bit) = (index as usize / BITS, index as usize % BITS);
        let mut shard = self.shards[chunk % self.shards.len()].lock();
        let bits = self.taken[word].load(Relaxed);
        assert!(bits & 1 << bit != 0, "an index is given back once");
        self.taken[word].store(bits & !(1 << bit), Relaxed);
        let open = self.open[chunk].load(Relaxed);
        if open == 0 {
            self.push(&mut shard, chunk as u32);
        }
        self.open[chunk].store(open | 1 << (word % WORDS), Relaxed);
        let count = self.count[chunk].load(Relaxed) - 1;
        self.count[chunk].store(count, Relaxed);
        let alone = shard.first == chunk as u32 && Links::of(&self.links[chunk]).next == NONE;
        // The last open chunk stays, or a pool that swings around empty would ask the OS each time.
        if count == 0 && !alone {
            self.unlink(&mut shard, chunk as u32);
            Links { prev: NONE, next: shard.emptied }.put(&self.links[chunk]);
            shard.emptied = chunk as u32;
            self.emptied.fetch_add(1, Relaxed);
        }
    }

    /// Gives the records of one emptied chunk back: calls `emptied` with its first index, of which
    /// none can be taken until that returns. Returns whether there was one. One load if not.
    ///
    /// Locking: the shards, one after the other; `emptied` is called without, since it may call the OS.
    pub fn release_emptied(&self, mut emptied: impl FnMut(usize)) -> bool {
        // Relaxed: a hint; a chunk that is missed is for the next call.
        self.emptied.load(Relaxed) > 0
            && (0..self.shards.len()).any(|number| self.release_from(number, &mut emptied))
    }

    fn release_from(&self, number: usize, emptied: impl FnOnce(usize)) -> bool {
        let mut shard = self.shards[number].lock();
        let Some(chunk) = self.pop_emptied(&mut shard) else { return false };
        shard.releasing += 1;
        drop(shard);
        emptied(chunk as usize * CHUNK);
        // The lock orders the records as they are now before the next taker of an index.
        let mut shard = self.shards[number].lock();
        Links { prev: NONE, next: shard.vacant }.put(&self.links[chunk as usize]);
        shard.vacant = chunk;
        shard.opened -= 1;
        shard.releasing -= 1;
        true
    }

    fn pop_emptied(&self, shard: &mut Shard) -> Option<u32> {
        let chunk = Some(shard.emptied).filter(|&chunk| chunk != NONE)?;
        shard.emptied = Links::of(&self.links[chunk as usize]).next;
        self.emptied.fetch_sub(1, Relaxed);
        Some(chunk)
    }

    /// Whether the index is taken. A snapshot, exact when nobody changes the set.
    #[must_use]
    pub fn is_taken(&self, index: u32) -> bool {
        self.taken
            .get(index as usize / BITS)
            .is_some_and(|word| word.load(Relaxed) & 1 << (index as usize % BITS) != 0)
    }

    /// Chunks whose records are in memory.
    #[must_use]
    pub fn open_chunks(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().opened as usize).sum()
    }

    /// Memory of the set itself, in bytes; the records it counts are the owner's.
    #[must_use]
    pub fn metadata_bytes(&self) -> usize {
        let touched: usize =
            self.shards.iter().map(|shard| shard.lock().fresh as usize / self.shards.len()).sum();
        touched * SET_BYTES as usize
    }

    fn push(&self, shard: &mut Shard, chunk: u32) {
        if shard.first != NONE {
            let link = &self.links[shard.first as usize];
            Links { prev: chunk, ..Links::of(link) }.put(link);
        }
        Links { prev: NONE, next: shard.first }.put(&self.links[chunk as usize]);
        shard.first = chunk;
    }

    fn unlink(&self, shard: &mut Shard, chunk: u32) {
        let Links { prev, next } = Links::of(&self.links[chunk as usize]);
        if prev == NONE {
            shard.first = next;
        } else {
            let link = &self.links[prev as usize];
            Links { next, ..Links::of(link) }.put(link);
        }
        if next != NONE {
            let link = &self.links[next as usize];
            Links { prev, ..Links::of(link) }.put(link);
        }
    }
}

/// Two chunk numbers in a word: `next` in the low half, `prev` in the high one.
struct Links {
    prev: u32,
    next: u32,
}

impl Links {
    fn of(word: &AtomicU64) -> Self {
        let bits = word.load(Relaxed);
        Self { prev: (bits >> 32) as u32, next: bits as u32 }
    }

    fn put(&self, word: &AtomicU64) {
        word.store(u64::from(self.prev) << 32 | u64::from(self.next), Relaxed);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
