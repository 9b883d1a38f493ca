//! Frame chains: up to [`MAX_CHAIN`] frames behind one lock, and the only door to their bytes.
//!
//! The lock is asymmetric. Readers take it shared and wait, for the time of one copy at most. Everybody who changes bytes or frames takes it
//! exclusively and only ever *tries*. Work that could not be done because somebody was inside is left as a *pending* mark, and whoever leaves last
//! is told. So a reader may stay as long as it likes, may allocate and free meanwhile, and nobody waits for it.
//!
//! # States
//! ```text
//!  vacant --create--> exclusive --release--> idle <--share/release--> 1.. readers
//!    ^                    |  ^                |
//!    +------destroy-------+  +--try_exclusive-+
//! ```
//!
//! # Invariants
//! - INV-CHAIN-1: a frame number stands in at most one chain, put there by [`Exclusive::attach`] from a frame that was ours alone.
//! - INV-CHAIN-2: the bytes of a chain's frames are touched only through a [`Shared`] or [`Exclusive`] guard of that chain.
//! - INV-CHAIN-3: an [`Exclusive`] guard exists only while no other guard of the chain does; its frame numbers change only under it.

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
    /// One: its record takes 8 bytes.
    Single,
    /// Up to [`MAX_CHAIN`].
    Multi,
}

impl ChainKind {
    /// Frames at most.
    #[must_use]
    pub const fn capacity(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Multi => MAX_CHAIN,
        }
    }

    /// Words in a record: the state and a frame number for each place.
    const fn stride(self) -> usize {
        1 + self.capacity()
    }
}

/// Names a chain. Units: none; 31 bits, and the kind can be told from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(u32);

impl ChainId {
    const SINGLE: u32 = 1 << 30;
    /// Chains of one kind there can be.
    pub const LIMIT: usize = Self::SINGLE as usize;

    fn new(kind: ChainKind, index: u32) -> Self {
        Self(match kind {
            ChainKind::Single => index | Self::SINGLE,
            ChainKind::Multi => index,
        })
    }

    /// The id with these bits, whether it names anything or not. The top bit is ignored.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        Self(bits & (Self::SINGLE | (Self::SINGLE - 1)))
    }

    /// The 31 bits.
    #[must_use]
    pub fn to_bits(self) -> u32 {
        self.0
    }

    /// Which kind of chain it names.
    #[must_use]
    pub fn kind(self) -> ChainKind {
        if self.0 & Self::SINGLE == 0 { ChainKind::Multi } else { ChainKind::Single }
    }

    /// Its place among the chains of its kind.
    #[must_use]
    pub fn index(self) -> usize {
        (self.0 & !Self::SINGLE) as usize
    }
}

/// All chains of one owner in one zone.
///
/// Locking: each chain has its own lock; taking and giving back chain numbers takes one short mutex.
#[derive(Debug)]
pub struct FrameChains {
    owner: Owner,
    single: Records,
    multi: Records,
    /// Where readers wait for an exclusive holder to leave.
    waiting: ParkingLot,
}

#[derive(Debug)]
struct Records {
    ids: IdAllocator,
    words: Table<AtomicU32>,
    owner: Table<AtomicU64>,
    owner_stride: usize,
}

/// Words an owner keeps beside each of its chains, by kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnerWords {
    /// Beside a chain of one frame.
    pub single: usize,
    /// Beside a chain of up to [`MAX_CHAIN`] frames.
    pub multi: usize,
}

/// How often a reader looks at a chain that is exclusively held before it sleeps. A model checker has it sleep at once.
const MAX_SPINS: u32 = if cfg!(any(loom, shuttle)) { 0 } else { 100 };

/// A frame number is stored plus one, so that the zero of fresh memory means none.
const NO_FRAME: u32 = 0;

impl FrameChains {
    /// No chains yet; at most `limit` of each kind, each with words of its user's beside it. Their frames belong to `owner`, whose
    /// [`MovableOps`] pass what they are asked on to [`FrameChains::can_isolate`] and [`FrameChains::migrate_frame`].
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

    /// The owner's words beside a chain; none for a number past the table. They are zero when the chain is first created, and may be
    /// when its chunk of numbers was empty in between; apart from that the owner finds what it left.
    #[must_use]
    pub fn owner_words(&self, id: ChainId) -> &[AtomicU64] {
        let records = self.records(id.kind());
        let first = id.index() * records.owner_stride;
        records.owner.get(first..first + records.owner_stride).unwrap_or(&[])
    }

    /// Starts loading what taking the chain and looking at its owner's words will touch. Only a hint.
    pub fn prefetch(&self, id: ChainId) {
        self.record(id).and_then(<[_]>::first).into_iter().for_each(sys::prefetch);
        self.owner_words(id).first().into_iter().for_each(sys::prefetch);
    }

    /// Starts loading what giving the frame at `position` back changes. Only a hint.
    pub fn prefetch_frame(&self, id: ChainId, position: usize) {
        if let Some(pfn) = self.record(id).and_then(|record| guard::frame_at(record, position)) {
            self.zone().tables.frames.prefetch(pfn);
        }
    }

    /// Starts loading bytes of the chain that are going to be read. Only a hint: no lock is needed, and what is not there is passed over.
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

    /// The zone the frames come from.
    #[must_use]
    pub fn zone(&self) -> &Arc<Zone> {
        self.owner.zone()
    }

    /// From here on the owner of the chains is called about their frames. See [`Owner::publish`].
    pub fn publish(&self, ops: Weak<dyn MovableOps>) {
        self.owner.publish(ops);
    }

    /// The LRU lists of the frames, if the owner was registered with some.
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

    /// The words of a chain's record: its state, then its frames. `None` for a number past the table.
    fn record(&self, id: ChainId) -> Option<&[AtomicU32]> {
        let stride = id.kind().stride();
        let first = id.index() * stride;
        self.records(id.kind()).words.get(first..first + stride)
    }

    fn state(&self, id: ChainId) -> Option<&AtomicU32> {
        self.record(id).map(|record| &record[0])
    }

    /// A new chain without frames, exclusively held, carrying the owner's `tag`.
    ///
    /// # Errors
    /// [`CreateError`]; nothing has changed then.
    pub fn create(&self, kind: ChainKind, tag: u8) -> Result<Exclusive<'_>, CreateError> {
        self.create_for(kind, tag, ChargePurpose::General)
    }

    /// As [`FrameChains::create`], and says what its record is for.
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
            .take(|opening| self.zone().charge_for(chunk + opening.set_bytes, purpose))?;
        let id = ChainId::new(kind, index);
        let record = self.record(id).ok_or(CreateError::Numbers)?;
        // Release pairs with the Acquire of whoever first finds the record live: he must see its frame words cleared.
        record[0].store(ChainState::new_exclusive(tag).bits(), Ordering::Release);
        Ok(Exclusive::new(self, id, record))
    }

    /// Takes the chain shared. Waits while it is exclusively held, which is one copy long; a thread that looked in vain for a while sleeps. `None`
    /// when it is vacant, or crowded.
    ///
    /// The id may be stale: the caller checks afterwards that the chain still holds what it came for.
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
            if spins < MAX_SPINS {
                sync::relax(spins);
                spins += 1;
            } else {
                self.wait_for_holder(id);
            }
        }
    }

    /// Sleeps until the exclusive holder leaves. It may be off its core, or in a page fault.
    fn wait_for_holder(&self, id: ChainId) {
        let Some(state) = self.state(id) else { return };
        self.waiting.park(id.index(), || {
            // Relaxed: the word alone decides, and the parking lot's mutex orders the rest.
            let waits =
                |bits: u32| ChainState::from_bits(bits).set_readers_waiting().map(ChainState::bits);
            state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, waits).is_ok()
        });
    }

    /// Wakes the readers that wait for the holder which just left, and whose last look at the word was `before`.
    fn wake(&self, id: ChainId, before: ChainState) {
        if before.has_readers_waiting() {
            self.waiting.unpark_all(id.index());
        }
    }

    /// Takes the chain shared unless it is exclusively held or vacant. Never waits: for those who hold a class lock.
    #[must_use]
    pub fn try_share(&self, id: ChainId) -> Option<Shared<'_>> {
        let record = self.record(id)?;
        // Relaxed: only a first guess for the compare-and-swap below.
        let mut seen = ChainState::from_bits(record[0].load(Ordering::Relaxed));
        while let Some(entered) = seen.add_reader() {
            // Acquire: as in `share`.
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

    /// Takes the chain exclusively if nobody is inside, else `None`. Never waits.
    #[must_use]
    pub fn try_exclusive(&self, id: ChainId) -> Option<Exclusive<'_>> {
        let record = self.record(id)?;
        // Relaxed: only a first guess for the compare-and-swap below.
        let mut seen = ChainState::from_bits(record[0].load(Ordering::Relaxed));
        while let Some(closed) = seen.set_exclusive() {
            // Acquire pairs with the Release of everybody who left: their reads are over and their writes are seen.
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

    /// Leaves a mark that whoever leaves the chain last is told about. `false` when nobody is inside who could be told: the caller tries again.
    #[must_use]
    pub fn mark_pending(&self, id: ChainId) -> bool {
        let Some(state) = self.state(id) else { return false };
        let mut seen = ChainState::from_bits(state.load(Ordering::Relaxed));
        while let Some(marked) = seen.set_pending() {
            // Release pairs with the Acquire in `leave`: what the marker did before is seen by the one who does the work.
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

    /// Whether as many readers are inside as can be counted: two million.
    #[must_use]
    pub fn has_reached_max_readers(&self, id: ChainId) -> bool {
        // Relaxed: a hint; whoever acts on it only gives up.
        self.state(id).is_some_and(|state| {
            ChainState::from_bits(state.load(Ordering::Relaxed)).has_reached_max_readers()
        })
    }

    /// The owner's byte of a live chain. Stale as soon as it is returned, unless the caller holds what keeps the chain alive.
    #[must_use]
    pub fn tag(&self, id: ChainId) -> Option<u8> {
        // Acquire pairs with the Release in `create`.
        let state = ChainState::from_bits(self.state(id)?.load(Ordering::Acquire));
        (!state.is_vacant()).then(|| state.tag())
    }

    /// The chains of one kind there are. A snapshot, exact when nobody creates or ends any.
    pub fn live(&self, kind: ChainKind) -> impl Iterator<Item = ChainId> {
        let ids = &self.records(kind).ids;
        (0..ids.capacity() as u32)
            .filter(|&index| ids.is_taken(index))
            .map(move |index| ChainId::new(kind, index))
    }

    /// Memory of all records, the owner's words and the number sets, in bytes.
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

    /// Gives records back to the OS that ended chains left, those of one chunk of each kind at most,
    /// and does what [`Zone::release_excess_if_due`] does. A load each when there is nothing to do.
    ///
    /// Ending a chain, or detaching a frame of it, calls the OS for nothing: the caller may hold
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
    /// Memory of the records of one chunk of numbers. Units: bytes.
    fn chunk_bytes(&self, kind: ChainKind) -> u64 {
        let record = kind.stride() * size_of::<u32>() + self.owner_stride * size_of::<u64>();
        (CHUNK * record) as u64
    }
}

/// Why there is no new chain. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CreateError {
    /// All numbers of its kind are taken.
    #[error("all chain numbers are taken")]
    Numbers,
    /// There is no memory for its record.
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
