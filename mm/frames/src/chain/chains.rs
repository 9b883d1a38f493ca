//! All chains of an owner: their records, and what needs no guard.

use std::ops::Range;
use std::sync::{Arc, Weak};

use sync::ParkingLot;
use sync::atomic::{AtomicU32, AtomicU64, Ordering};
use sys::{Backing, MapError, Table};

use super::id::{ChainId, ChainKind};
use super::state::ChainState;
use crate::geometry::FRAME_SIZE;
use crate::ids::{CHUNK, IdAllocator};
use crate::migrate::Owner;
use crate::units::Pfn;
use crate::zone::{Lru, MovableOps, Zone};

/// All chains of one owner in one zone. Each has its own lock.
///
/// Locking: allocating and freeing chain numbers takes one short mutex.
#[derive(Debug)]
pub struct FrameChains {
    owner: Owner,
    records: [Records; 2],
    /// Where readers sleep until an exclusive holder leaves.
    pub(super) waiting: ParkingLot,
}

#[derive(Debug)]
pub(super) struct Records {
    pub(super) ids: IdAllocator,
    words: Table<AtomicU32>,
    owner: Table<AtomicU64>,
    owner_stride: usize,
    kind: ChainKind,
    /// The memory of the records of one chunk of numbers. Units: bytes.
    pub(super) chunk_bytes: u64,
}

/// The number of words that the owner keeps beside each of its chains, by kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnerWords {
    /// Beside a chain of one frame.
    pub single: usize,
    /// Beside a chain of up to [`MAX_CHAIN`](crate::MAX_CHAIN) frames.
    pub multi: usize,
}

/// A frame number is stored plus one, so that the zero of fresh memory means no frame.
pub(super) const NO_FRAME: u32 = 0;

impl FrameChains {
    /// Creates an empty set of chains: at most `limit` of each kind, each with `words` beside it
    /// for the caller. Their frames belong to `owner`, whose [`MovableOps`] call
    /// [`FrameChains::can_isolate`] and [`FrameChains::migrate_frame`].
    ///
    /// # Errors
    /// [`MapError`] when the address space for the records cannot be reserved.
    pub fn new(
        owner: Owner,
        limit: usize,
        words: OwnerWords,
        backing: Backing,
    ) -> Result<Self, MapError> {
        owner.mark_chain_owner();
        let records = |kind: ChainKind, owner_stride: usize| -> Result<Records, MapError> {
            let ids = IdAllocator::new(limit.min(ChainId::LIMIT), 1, backing)?;
            let words = Table::reserve(ids.capacity() * kind.stride(), backing)?;
            let owner = Table::reserve(ids.capacity() * owner_stride, backing)?;
            let record = kind.stride() * size_of::<u32>() + owner_stride * size_of::<u64>();
            let chunk_bytes = (CHUNK * record) as u64;
            Ok(Records { ids, words, owner, owner_stride, kind, chunk_bytes })
        };
        let records =
            [records(ChainKind::Single, words.single)?, records(ChainKind::Multi, words.multi)?];
        Ok(Self { records, owner, waiting: ParkingLot::default() })
    }

    /// Returns the owner's words beside a chain; an empty slice for a number past the table. They
    /// are zero when the chain is first created, and may be zero again after its chunk of numbers
    /// was empty. Otherwise they keep what the owner stored.
    #[must_use]
    pub fn owner_words(&self, id: ChainId) -> &[AtomicU64] {
        let records = self.records(id.kind());
        let first = id.index() * records.owner_stride;
        records.owner.get(first..first + records.owner_stride).unwrap_or(&[])
    }

    /// Prefetches what a guard of the chain and its owner's words will touch. Only a hint.
    pub fn prefetch(&self, id: ChainId) {
        self.record(id).and_then(<[_]>::first).into_iter().for_each(sys::prefetch);
        self.owner_words(id).first().into_iter().for_each(sys::prefetch);
    }

    /// Prefetches what freeing the frame at `position` changes. Only a hint.
    pub fn prefetch_frame(&self, id: ChainId, position: usize) {
        if let Some(pfn) = self.record(id).and_then(|record| frame_at(record, position)) {
            self.zone().tables().frames.prefetch(pfn);
        }
    }

    /// Prefetches bytes of the chain that are there. Only a hint: needs no lock.
    pub fn prefetch_bytes(&self, id: ChainId, range: Range<usize>) {
        let Some(record) = self.record(id) else { return };
        let mut at = range.start;
        while at < range.end {
            let len = (FRAME_SIZE - at % FRAME_SIZE).min(range.end - at);
            if let Some(pfn) = frame_at(record, at / FRAME_SIZE) {
                let frame = self.zone().allocator().arena.frame_ptr(pfn).as_ptr();
                sys::prefetch_bytes(frame.wrapping_add(at % FRAME_SIZE), len);
            }
            at += len;
        }
    }

    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Returns the zone that the frames come from.
    #[must_use]
    pub fn zone(&self) -> &Arc<Zone> {
        self.owner.zone()
    }

    /// Publishes the callbacks of the chains' owner. See [`Owner::publish`].
    pub fn publish(&self, ops: Weak<dyn MovableOps>) {
        self.owner.publish(ops);
    }

    /// Returns the LRU lists of the frames, or `None` when the owner was registered without them.
    #[must_use]
    pub fn lru(&self) -> Option<Lru<'_>> {
        self.owner.lru()
    }

    pub(super) fn records(&self, kind: ChainKind) -> &Records {
        &self.records[kind as usize]
    }

    /// Returns a chain's record: its state, then its frames. `None` for a number past the table.
    pub(super) fn record(&self, id: ChainId) -> Option<&[AtomicU32]> {
        let stride = id.kind().stride();
        let first = id.index() * stride;
        self.records(id.kind()).words.get(first..first + stride)
    }

    pub(super) fn state(&self, id: ChainId) -> Option<&AtomicU32> {
        self.record(id).map(|record| &record[0])
    }

    /// Wakes the readers that wait for an exclusive holder, which replaced `before` as it left.
    pub(super) fn wake(&self, id: ChainId, before: ChainState) {
        if before.has_readers_waiting() {
            self.waiting.unpark_all(id.index());
        }
    }

    /// Marks the chain as pending: the last guard to leave returns
    /// [`ReleaseStatus::Pending`](crate::ReleaseStatus::Pending). Returns `false` when there is no
    /// guard: the caller tries again.
    #[must_use]
    pub fn mark_pending(&self, id: ChainId) -> bool {
        // Release pairs with the Acquire in `leave`: the thread that does the work sees what the
        // caller did before.
        let mark = |word| ChainState::update(word, Ordering::Release, ChainState::set_pending);
        self.state(id).and_then(mark).is_some()
    }

    /// Returns whether the chain has the maximum number of readers, two million.
    #[must_use]
    pub fn has_reached_max_readers(&self, id: ChainId) -> bool {
        // Relaxed: a hint. A caller that acts on it only gives up.
        let load = |word: &AtomicU32| ChainState(word.load(Ordering::Relaxed));
        self.state(id).map(load).is_some_and(ChainState::has_reached_max_readers)
    }

    /// Returns the tag of a live chain. Stale at once, unless the caller keeps the chain alive.
    #[must_use]
    pub fn tag(&self, id: ChainId) -> Option<u8> {
        // Acquire pairs with the Release in `create`.
        let state = ChainState(self.state(id)?.load(Ordering::Acquire));
        (!state.is_vacant()).then(|| state.tag())
    }

    /// Returns the chains of one kind. A snapshot, exact while no chain is created or destroyed.
    pub fn live(&self, kind: ChainKind) -> impl Iterator<Item = ChainId> {
        let ids = &self.records(kind).ids;
        (0..ids.capacity() as u32)
            .filter(|&index| ids.is_taken(index))
            .map(move |index| ChainId::new(kind, index))
    }

    /// Returns the memory of all records, the owner's words and the number sets, in bytes.
    #[must_use]
    pub fn metadata_bytes(&self) -> usize {
        let bytes = |Records { ids, chunk_bytes, .. }: &Records| {
            ids.open_chunks() * *chunk_bytes as usize + ids.metadata_bytes()
        };
        self.records.iter().map(bytes).sum()
    }

    /// Releases records of destroyed chains to the OS, those of one chunk of each kind at most,
    /// then calls [`Zone::release_excess_if_due`]. One load each when there is nothing to do.
    ///
    /// Destroying a chain, or detaching a frame of it, never calls the OS: the caller may hold
    /// locks. Call this after releasing them.
    pub fn release_excess_if_due(&self) {
        for records in &self.records {
            records.ids.release_emptied(|first| {
                let (stride, owner_stride) = (records.kind.stride(), records.owner_stride);
                records.words.discard(first * stride, CHUNK * stride);
                records.owner.discard(first * owner_stride, CHUNK * owner_stride);
                self.zone().uncharge(records.chunk_bytes);
            });
        }
        self.zone().release_excess_if_due();
    }
}

impl Drop for FrameChains {
    fn drop(&mut self) {
        self.zone().uncharge(self.metadata_bytes() as u64);
    }
}

/// Returns the frame at a position of a record.
pub(super) fn frame_at(record: &[AtomicU32], position: usize) -> Option<Pfn> {
    // Relaxed: the caller holds a guard, so no number changes (INV-CHAIN-3), or wants a hint.
    let number = record.get(1 + position)?.load(Ordering::Relaxed);
    (number != NO_FRAME).then(|| Pfn(number - 1))
}
