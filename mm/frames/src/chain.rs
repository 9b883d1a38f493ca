//! Frame chains: up to [`MAX_CHAIN`] frames behind one lock, which guards all access to their
//! bytes.
//!
//! The lock is asymmetric. Readers take it shared and wait at most as long as one copy takes. A
//! thread that changes bytes or frames takes it exclusively and only ever *tries*. When it
//! cannot, it leaves the work as a *pending* mark, which the last holder to leave finds. So a
//! reader may stay as long as it likes and may allocate and free meanwhile, and no thread waits
//! for it.
//!
//! # States
//! ```text
//!  vacant --create--> exclusive --release--> idle <--share/release--> 1.. readers
//!    ^                    |  ^                |
//!    +------destroy-------+  +--try_exclusive-+
//! ```
//!
//! # Invariants
//! - INV-CHAIN-1: a frame number is in at most one chain. [`Exclusive::attach`] put it there from
//!   a frame that no other thread could reach.
//! - INV-CHAIN-2: the bytes of a chain's frames are accessed only through a [`Shared`] or
//!   [`Exclusive`] guard of that chain.
//! - INV-CHAIN-3: while an [`Exclusive`] guard of a chain exists, no other guard of it does. The
//!   chain's frame numbers change only under it.

mod guard;
mod migrate;
mod state;

pub use guard::{Exclusive, ReleaseStatus, Shared};
pub use migrate::FrameMove;

use std::ops::Range;
use std::sync::{Arc, Weak};

use sync::ParkingLot;
use sync::atomic::{AtomicU32, AtomicU64, Ordering};
use sys::{Backing, MapError, Table};
use thiserror::Error;

use crate::ids::{AllocIdError, CHUNK, IdAllocator};
use crate::{AllocError, ChargePurpose, FRAME_SIZE, Lru, MAX_CHAIN, MovableOps, Owner, Zone};
use state::ChainState;

/// How many frames a chain can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// One. Its record takes 8 bytes.
    Single,
    /// Up to [`MAX_CHAIN`].
    Multi,
}

impl ChainKind {
    /// Returns the most frames a chain of this kind holds.
    #[must_use]
    pub const fn capacity(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Multi => MAX_CHAIN,
        }
    }

    /// Returns the words in a record: the state and a frame number for each position.
    const fn stride(self) -> usize {
        1 + self.capacity()
    }
}

/// The number of a chain and its kind, in 31 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(u32);

impl ChainId {
    const SINGLE: u32 = 1 << 30;
    /// The most chains of one kind.
    pub const LIMIT: usize = Self::SINGLE as usize;

    fn new(kind: ChainKind, index: u32) -> Self {
        Self(match kind {
            ChainKind::Single => index | Self::SINGLE,
            ChainKind::Multi => index,
        })
    }

    /// Returns the id with these bits, whether it names a chain or not. Ignores the top bit.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        Self(bits & (Self::SINGLE | (Self::SINGLE - 1)))
    }

    /// Returns the 31 bits.
    #[must_use]
    pub fn to_bits(self) -> u32 {
        self.0
    }

    /// Returns the kind of chain it names.
    #[must_use]
    pub fn kind(self) -> ChainKind {
        if self.0 & Self::SINGLE == 0 { ChainKind::Multi } else { ChainKind::Single }
    }

    /// Returns its index among the chains of its kind.
    #[must_use]
    pub fn index(self) -> usize {
        (self.0 & !Self::SINGLE) as usize
    }
}

/// All chains of one owner in one zone.
///
/// Locking: each chain has its own lock. Allocating and freeing chain numbers takes one short
/// mutex.
#[derive(Debug)]
pub struct FrameChains {
    owner: Owner,
    single: Records,
    multi: Records,
    /// Where readers sleep until an exclusive holder leaves.
    waiting: ParkingLot,
}

#[derive(Debug)]
struct Records {
    ids: IdAllocator,
    words: Table<AtomicU32>,
    owner: Table<AtomicU64>,
    owner_stride: usize,
}

/// The number of words that the owner keeps beside each of its chains, by kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnerWords {
    /// Beside a chain of one frame.
    pub single: usize,
    /// Beside a chain of up to [`MAX_CHAIN`] frames.
    pub multi: usize,
}

/// How often a reader polls an exclusively held chain before it sleeps. Under a model checker it
/// sleeps at once.
const MAX_SPINS: u32 = if cfg!(any(loom, shuttle)) { 0 } else { 100 };

/// A frame number is stored plus one, so that the zero of fresh memory means no frame.
const NO_FRAME: u32 = 0;

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
            Ok(Records { ids, words, owner, owner_stride })
        };
        let (single, multi) =
            (records(ChainKind::Single, words.single)?, records(ChainKind::Multi, words.multi)?);
        Ok(Self { single, multi, owner, waiting: ParkingLot::default() })
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
        if let Some(pfn) = self.record(id).and_then(|record| guard::frame_at(record, position)) {
            self.zone().tables.frames.prefetch(pfn);
        }
    }

    /// Prefetches bytes of the chain that are going to be read. Only a hint: needs no lock, and
    /// skips frames that are not there.
    pub fn prefetch_bytes(&self, id: ChainId, range: Range<usize>) {
        let Some(record) = self.record(id) else { return };
        let mut at = range.start;
        while at < range.end {
            let len = (FRAME_SIZE - at % FRAME_SIZE).min(range.end - at);
            if let Some(pfn) = guard::frame_at(record, at / FRAME_SIZE) {
                let start =
                    self.zone().arena().frame_ptr(pfn).as_ptr().wrapping_add(at % FRAME_SIZE);
                sys::prefetch_bytes(start, len);
            }
            at += len;
        }
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
    pub fn lru(&self) -> Option<&Lru> {
        self.owner.lru()
    }

    fn records(&self, kind: ChainKind) -> &Records {
        match kind {
            ChainKind::Single => &self.single,
            ChainKind::Multi => &self.multi,
        }
    }

    /// Returns the words of a chain's record: its state, then its frames. `None` for a number
    /// past the table.
    fn record(&self, id: ChainId) -> Option<&[AtomicU32]> {
        let stride = id.kind().stride();
        let first = id.index() * stride;
        self.records(id.kind()).words.get(first..first + stride)
    }

    fn state(&self, id: ChainId) -> Option<&AtomicU32> {
        self.record(id).map(|record| &record[0])
    }

    /// Creates a chain without frames, exclusively held, that carries the owner's `tag`.
    ///
    /// # Errors
    /// [`CreateError`]; nothing has changed then.
    pub fn create(&self, kind: ChainKind, tag: u8) -> Result<Exclusive<'_>, CreateError> {
        self.create_for(kind, tag, ChargePurpose::General)
    }

    /// Creates a chain as [`FrameChains::create`] does, and charges its record for `purpose`.
    ///
    /// # Errors
    /// [`CreateError`]; nothing has changed then.
    pub fn create_for(
        &self,
        kind: ChainKind,
        tag: u8,
        purpose: ChargePurpose,
    ) -> Result<Exclusive<'_>, CreateError> {
        let records = self.records(kind);
        let chunk = records.chunk_bytes(kind);
        let index = records
            .ids
            .alloc(|opening| self.zone().charge_for(chunk + opening.set_bytes, purpose))?;
        let id = ChainId::new(kind, index);
        let record = self.record(id).ok_or(CreateError::Numbers)?;
        // Release pairs with the Acquire of a thread that finds the record live: it must see the
        // frame words cleared.
        record[0].store(ChainState::new_exclusive(tag).bits(), Ordering::Release);
        Ok(Exclusive::new(self, id, record))
    }

    /// Takes the chain shared. Waits while it is exclusively held, which takes one copy: polls
    /// for a while, then sleeps. Returns `None` when the chain is vacant or has the maximum
    /// number of readers.
    ///
    /// The id may be stale: the caller checks afterwards that the chain still holds what it
    /// expects.
    #[must_use]
    pub fn share(&self, id: ChainId) -> Option<Shared<'_>> {
        sync::order::assert_may_wait(sync::Rank::Chain);
        let mut spins = 0;
        loop {
            if let Some(shared) = self.try_share(id) {
                return Some(shared);
            }
            self.tag(id)?;
            if self.has_reached_max_readers(id) {
                return None;
            }
            // Poll first: most holders leave soon.
            if spins < MAX_SPINS {
                sync::relax(spins);
                spins += 1;
            } else {
                self.wait_for_holder(id);
            }
        }
    }

    /// Sleeps until the exclusive holder leaves. The holder may be off its core, or in a page
    /// fault.
    fn wait_for_holder(&self, id: ChainId) {
        let Some(state) = self.state(id) else { return };
        self.waiting.park(id.index(), || {
            // Relaxed: only the word decides, and the parking lot's mutex orders the rest.
            let waits =
                |bits: u32| ChainState::from_bits(bits).set_readers_waiting().map(ChainState::bits);
            state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, waits).is_ok()
        });
    }

    /// Wakes the readers that waited for an exclusive holder. `before` is the word that the
    /// holder replaced when it left.
    fn wake(&self, id: ChainId, before: ChainState) {
        if before.has_readers_waiting() {
            self.waiting.unpark_all(id.index());
        }
    }

    /// Takes the chain shared unless it is exclusively held or vacant. Never waits: for callers
    /// that hold a class lock.
    #[must_use]
    pub fn try_share(&self, id: ChainId) -> Option<Shared<'_>> {
        let record = self.record(id)?;
        // Relaxed: only a first guess for the compare-and-swap below.
        let mut seen = ChainState::from_bits(record[0].load(Ordering::Relaxed));
        while let Some(entered) = seen.add_reader() {
            // Acquire pairs with the Release in `Exclusive::leave`: the bytes the last holder
            // wrote are seen.
            match record[0].compare_exchange_weak(
                seen.bits(),
                entered.bits(),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Shared::new(self, id, record, seen.tag())),
                Err(now) => seen = ChainState::from_bits(now),
            }
        }
        None
    }

    /// Takes the chain exclusively. Returns `None` when a guard exists. Never waits.
    #[must_use]
    pub fn try_exclusive(&self, id: ChainId) -> Option<Exclusive<'_>> {
        let record = self.record(id)?;
        // Relaxed: only a first guess for the compare-and-swap below.
        let mut seen = ChainState::from_bits(record[0].load(Ordering::Relaxed));
        while let Some(closed) = seen.set_exclusive() {
            // Acquire pairs with the Release of every guard that left: its reads are over and its
            // writes are seen.
            match record[0].compare_exchange_weak(
                seen.bits(),
                closed.bits(),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Exclusive::new(self, id, record)),
                Err(now) => seen = ChainState::from_bits(now),
            }
        }
        None
    }

    /// Marks the chain as pending: the last guard to leave returns [`ReleaseStatus::Pending`].
    /// Returns `false` when there is no guard: the caller tries again.
    #[must_use]
    pub fn mark_pending(&self, id: ChainId) -> bool {
        let Some(state) = self.state(id) else { return false };
        let mut seen = ChainState::from_bits(state.load(Ordering::Relaxed));
        while let Some(marked) = seen.set_pending() {
            // Release pairs with the Acquire in `leave`: the thread that does the work sees what
            // the caller did before.
            match state.compare_exchange_weak(
                seen.bits(),
                marked.bits(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => seen = ChainState::from_bits(now),
            }
        }
        false
    }

    /// Returns whether the chain has the maximum number of readers, two million.
    #[must_use]
    pub fn has_reached_max_readers(&self, id: ChainId) -> bool {
        // Relaxed: a hint. A caller that acts on it only gives up.
        self.state(id).is_some_and(|state| {
            ChainState::from_bits(state.load(Ordering::Relaxed)).has_reached_max_readers()
        })
    }

    /// Returns the tag of a live chain. Stale as soon as it is returned, unless the caller keeps
    /// the chain alive.
    #[must_use]
    pub fn tag(&self, id: ChainId) -> Option<u8> {
        // Acquire pairs with the Release in `create`.
        let state = ChainState::from_bits(self.state(id)?.load(Ordering::Acquire));
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
        [ChainKind::Single, ChainKind::Multi]
            .into_iter()
            .map(|kind| {
                let records = self.records(kind);
                records.ids.open_chunks() * records.chunk_bytes(kind) as usize
                    + records.ids.metadata_bytes()
            })
            .sum()
    }

    fn free_id(&self, id: ChainId) {
        self.records(id.kind()).ids.free_without_release(id.index() as u32);
    }

    /// Releases records of destroyed chains to the OS, those of one chunk of each kind at most,
    /// then calls [`Zone::release_excess_if_due`]. One load each when there is nothing to do.
    ///
    /// Destroying a chain, or detaching a frame of it, never calls the OS: the caller may hold
    /// locks. Call this after releasing them.
    pub fn release_excess_if_due(&self) {
        self.release_records(ChainKind::Single);
        self.release_records(ChainKind::Multi);
        self.zone().release_excess_if_due();
    }

    fn release_records(&self, kind: ChainKind) {
        let (records, stride) = (self.records(kind), kind.stride());
        records.ids.release_emptied(|first| {
            records.words.discard(first * stride, CHUNK * stride);
            records.owner.discard(first * records.owner_stride, CHUNK * records.owner_stride);
            self.zone().uncharge(records.chunk_bytes(kind));
        });
    }
}

impl Drop for FrameChains {
    fn drop(&mut self) {
        self.zone().uncharge(self.metadata_bytes() as u64);
    }
}

impl Records {
    /// Returns the memory of the records of one chunk of numbers, in bytes.
    fn chunk_bytes(&self, kind: ChainKind) -> u64 {
        let record = kind.stride() * size_of::<u32>() + self.owner_stride * size_of::<u64>();
        (CHUNK * record) as u64
    }
}

/// Why no chain was created. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CreateError {
    /// All numbers of its kind are taken.
    #[error("all chain numbers are taken")]
    Numbers,
    /// The zone has no memory for its record.
    #[error(transparent)]
    Memory(#[from] AllocError),
}

impl From<AllocIdError<AllocError>> for CreateError {
    fn from(error: AllocIdError<AllocError>) -> Self {
        match error {
            AllocIdError::Exhausted => Self::Numbers,
            AllocIdError::Refused(error) => Self::Memory(error),
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
