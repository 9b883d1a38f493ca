//! Extents: up to [`MAX_CHAIN`] frames behind one lock, and the only door to their bytes.
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
//! - INV-EXTENT-1: a frame number stands in at most one extent, put there by [`Exclusive::attach`] from a frame that was ours alone.
//! - INV-EXTENT-2: the bytes of an extent's frames are touched only through a [`Shared`] or [`Exclusive`] guard of that extent.
//! - INV-EXTENT-3: an [`Exclusive`] guard exists only while no other guard of the extent does; its frame numbers change only under it.

mod guard;
mod migrate;
mod state;

pub use guard::{Exclusive, Leaving, Shared};
pub use migrate::FrameMove;

use std::ops::Range;
use std::sync::{Arc, Weak};

use sync::ParkingLot;
use sync::atomic::{AtomicU32, AtomicU64, Ordering};
use sys::{Backing, MapError, Table};
use thiserror::Error;

use crate::ids::{CHUNK, Ids, TakeError};
use crate::{AllocError, ChargeFor, FRAME_SIZE, Lru, MAX_CHAIN, MovableOps, Owner, Zone};
use state::State;

/// How many frames an extent can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One: its record takes 8 bytes.
    Single,
    /// Up to [`MAX_CHAIN`].
    Chain,
}

impl Shape {
    /// Frames at most.
    #[must_use]
    pub const fn capacity(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Chain => MAX_CHAIN,
        }
    }

    /// Words in a record: the state and a frame number for each place.
    const fn stride(self) -> usize {
        1 + self.capacity()
    }
}

/// Names an extent. Units: none; 31 bits, and the shape can be told from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtentId(u32);

impl ExtentId {
    const SINGLE: u32 = 1 << 30;
    /// Extents of one shape there can be.
    pub const LIMIT: usize = Self::SINGLE as usize;

    fn new(shape: Shape, index: u32) -> Self {
        Self(match shape {
            Shape::Single => index | Self::SINGLE,
            Shape::Chain => index,
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

    /// Which kind of extent it names.
    #[must_use]
    pub fn shape(self) -> Shape {
        if self.0 & Self::SINGLE == 0 { Shape::Chain } else { Shape::Single }
    }

    /// Its place among the extents of its shape.
    #[must_use]
    pub fn index(self) -> usize {
        (self.0 & !Self::SINGLE) as usize
    }
}

/// All extents of one owner in one zone.
///
/// Locking: each extent has its own lock; taking and giving back extent numbers takes one short mutex.
#[derive(Debug)]
pub struct Extents {
    owner: Owner,
    singles: Records,
    chains: Records,
    /// Where readers wait for an exclusive holder to leave.
    waiting: ParkingLot,
}

#[derive(Debug)]
struct Records {
    ids: Ids,
    words: Table<AtomicU32>,
    owner: Table<AtomicU64>,
    owner_stride: usize,
}

/// Words an owner keeps beside each of its extents, by shape.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnerWords {
    /// Beside an extent of one frame.
    pub single: usize,
    /// Beside a chain.
    pub chain: usize,
}

/// How often a reader looks at an extent that is exclusively held before it sleeps. A model checker has it sleep at once.
const SPINS: u32 = if cfg!(any(loom, shuttle)) { 0 } else { 100 };

/// A frame number is stored plus one, so that the zero of fresh memory means none.
const NO_FRAME: u32 = 0;

impl Extents {
    /// No extents yet; at most `limit` of each shape, each with words of its user's beside it. Their frames belong to `owner`, whose
    /// [`MovableOps`] pass what they are asked on to [`Extents::can_isolate`] and [`Extents::migrate_frame`].
    ///
    /// # Errors
    /// [`MapError`] when the address space for the records cannot be reserved.
    pub fn new(
        owner: Owner,
        limit: usize,
        words: OwnerWords,
        backing: Backing,
    ) -> Result<Self, MapError> {
        owner.keep_for_extents();
        let records = |shape: Shape, owner_stride: usize| -> Result<Records, MapError> {
            let ids = Ids::new(limit.min(ExtentId::LIMIT), 1, backing)?;
            let words = Table::reserve(ids.capacity() * shape.stride(), backing)?;
            let owner = Table::reserve(ids.capacity() * owner_stride, backing)?;
            Ok(Records { ids, words, owner, owner_stride })
        };
        let (singles, chains) =
            (records(Shape::Single, words.single)?, records(Shape::Chain, words.chain)?);
        Ok(Self { singles, chains, owner, waiting: ParkingLot::default() })
    }

    /// The owner's words beside an extent; none for a number past the table. They are zero when the extent is first created, and may be
    /// when its chunk of numbers was empty in between; apart from that the owner finds what it left.
    #[must_use]
    pub fn owner_words(&self, id: ExtentId) -> &[AtomicU64] {
        let records = self.records(id.shape());
        let first = id.index() * records.owner_stride;
        records.owner.get(first..first + records.owner_stride).unwrap_or(&[])
    }

    /// Starts loading what taking the extent and looking at its owner's words will touch. Only a hint.
    pub fn prefetch(&self, id: ExtentId) {
        self.record(id).and_then(<[_]>::first).into_iter().for_each(sys::prefetch);
        self.owner_words(id).first().into_iter().for_each(sys::prefetch);
    }

    /// Starts loading what giving the frame at `position` back changes. Only a hint.
    pub fn prefetch_frame(&self, id: ExtentId, position: usize) {
        if let Some(pfn) = self.record(id).and_then(|record| guard::frame_at(record, position)) {
            self.zone().tables.frames.prefetch(pfn);
        }
    }

    /// Starts loading bytes of the extent that are going to be read. Only a hint: no lock is needed, and what is not there is passed over.
    pub fn prefetch_bytes(&self, id: ExtentId, range: Range<usize>) {
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

    /// From here on the owner of the extents is called about their frames. See [`Owner::publish`].
    pub fn publish(&self, ops: Weak<dyn MovableOps>) {
        self.owner.publish(ops);
    }

    /// The LRU lists of the frames, if the owner was registered with some.
    #[must_use]
    pub fn lru(&self) -> Option<&Lru> {
        self.owner.lru()
    }

    fn records(&self, shape: Shape) -> &Records {
        match shape {
            Shape::Single => &self.singles,
            Shape::Chain => &self.chains,
        }
    }

    /// The words of an extent's record: its state, then its frames. `None` for a number past the table.
    fn record(&self, id: ExtentId) -> Option<&[AtomicU32]> {
        let stride = id.shape().stride();
        let first = id.index() * stride;
        self.records(id.shape()).words.get(first..first + stride)
    }

    fn state(&self, id: ExtentId) -> Option<&AtomicU32> {
        self.record(id).map(|record| &record[0])
    }

    /// A new extent without frames, exclusively held, carrying the owner's `tag`.
    ///
    /// # Errors
    /// [`CreateError`]; nothing has changed then.
    pub fn create(&self, shape: Shape, tag: u8) -> Result<Exclusive<'_>, CreateError> {
        self.create_for(shape, tag, ChargeFor::Anything)
    }

    /// As [`Extents::create`], and says what its record is for.
    ///
    /// # Errors
    /// [`CreateError`]; nothing has changed then.
    pub fn create_for(
        &self,
        shape: Shape,
        tag: u8,
        purpose: ChargeFor,
    ) -> Result<Exclusive<'_>, CreateError> {
        let records = self.records(shape);
        let chunk = records.chunk_bytes(shape);
        let index = records
            .ids
            .take(|opening| self.zone().charge_for(chunk + opening.set_bytes, purpose))?;
        let id = ExtentId::new(shape, index);
        let record = self.record(id).ok_or(CreateError::Numbers)?;
        // Release pairs with the Acquire of whoever first finds the record live: he must see its frame words cleared.
        record[0].store(State::born(tag).bits(), Ordering::Release);
        Ok(Exclusive::new(self, id, record))
    }

    /// Takes the extent shared. Waits while it is exclusively held, which is one copy long; a thread that looked in vain for a while sleeps. `None`
    /// when it is vacant, or crowded.
    ///
    /// The id may be stale: the caller checks afterwards that the extent still holds what it came for.
    #[must_use]
    pub fn share(&self, id: ExtentId) -> Option<Shared<'_>> {
        sync::order::assert_may_wait(sync::Rank::Extent);
        let mut spins = 0;
        loop {
            if let Some(shared) = self.try_share(id) {
                return Some(shared);
            }
            self.tag(id)?;
            if self.is_crowded(id) {
                return None;
            }
            if spins < SPINS {
                sync::relax(spins);
                spins += 1;
            } else {
                self.wait_for_holder(id);
            }
        }
    }

    /// Sleeps until the exclusive holder leaves. It may be off its core, or in a page fault.
    fn wait_for_holder(&self, id: ExtentId) {
        let Some(state) = self.state(id) else { return };
        self.waiting.park(id.index(), || {
            // Relaxed: the word alone decides, and the parking lot's mutex orders the rest.
            let waits = |bits: u32| State::from_bits(bits).wait().map(State::bits);
            state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, waits).is_ok()
        });
    }

    /// Wakes the readers that wait for the holder which just left, and whose last look at the word was `before`.
    fn wake(&self, id: ExtentId, before: State) {
        if before.is_waited_for() {
            self.waiting.unpark_all(id.index());
        }
    }

    /// Takes the extent shared unless it is exclusively held or vacant. Never waits: for those who hold a class lock.
    #[must_use]
    pub fn try_share(&self, id: ExtentId) -> Option<Shared<'_>> {
        let record = self.record(id)?;
        // Relaxed: only a first guess for the compare-and-swap below.
        let mut seen = State::from_bits(record[0].load(Ordering::Relaxed));
        while let Some(entered) = seen.enter() {
            // Acquire: as in `share`.
            match record[0].compare_exchange_weak(
                seen.bits(),
                entered.bits(),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Shared::new(self, id, record, seen.tag())),
                Err(now) => seen = State::from_bits(now),
            }
        }
        None
    }

    /// Takes the extent exclusively if nobody is inside, else `None`. Never waits.
    #[must_use]
    pub fn try_exclusive(&self, id: ExtentId) -> Option<Exclusive<'_>> {
        let record = self.record(id)?;
        // Relaxed: only a first guess for the compare-and-swap below.
        let mut seen = State::from_bits(record[0].load(Ordering::Relaxed));
        while let Some(closed) = seen.close() {
            // Acquire pairs with the Release of everybody who left: their reads are over and their writes are seen.
            match record[0].compare_exchange_weak(
                seen.bits(),
                closed.bits(),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Exclusive::new(self, id, record)),
                Err(now) => seen = State::from_bits(now),
            }
        }
        None
    }

    /// Leaves a mark that whoever leaves the extent last is told about. `false` when nobody is inside who could be told: the caller tries again.
    #[must_use]
    pub fn mark_pending(&self, id: ExtentId) -> bool {
        let Some(state) = self.state(id) else { return false };
        let mut seen = State::from_bits(state.load(Ordering::Relaxed));
        while let Some(marked) = seen.mark() {
            // Release pairs with the Acquire in `leave`: what the marker did before is seen by the one who does the work.
            match state.compare_exchange_weak(
                seen.bits(),
                marked.bits(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => seen = State::from_bits(now),
            }
        }
        false
    }

    /// Whether as many readers are inside as can be counted: two million.
    #[must_use]
    pub fn is_crowded(&self, id: ExtentId) -> bool {
        // Relaxed: a hint; whoever acts on it only gives up.
        self.state(id)
            .is_some_and(|state| State::from_bits(state.load(Ordering::Relaxed)).is_crowded())
    }

    /// The owner's byte of a live extent. Stale as soon as it is returned, unless the caller holds what keeps the extent alive.
    #[must_use]
    pub fn tag(&self, id: ExtentId) -> Option<u8> {
        // Acquire pairs with the Release in `create`.
        let state = State::from_bits(self.state(id)?.load(Ordering::Acquire));
        (!state.is_vacant()).then(|| state.tag())
    }

    /// The extents of one shape there are. A snapshot, exact when nobody creates or ends any.
    pub fn live(&self, shape: Shape) -> impl Iterator<Item = ExtentId> {
        let ids = &self.records(shape).ids;
        (0..ids.capacity() as u32)
            .filter(|&index| ids.is_taken(index))
            .map(move |index| ExtentId::new(shape, index))
    }

    /// Memory of all records, the owner's words and the number sets, in bytes.
    #[must_use]
    pub fn metadata_bytes(&self) -> usize {
        [Shape::Single, Shape::Chain]
            .into_iter()
            .map(|shape| {
                let records = self.records(shape);
                records.ids.open_chunks() * records.chunk_bytes(shape) as usize
                    + records.ids.own_bytes()
            })
            .sum()
    }

    fn retire(&self, id: ExtentId) {
        self.records(id.shape()).ids.give_back_later(id.index() as u32);
    }

    /// Gives records back to the OS that ended extents left, those of one chunk of each shape at most,
    /// and does what [`Zone::settle`] does. A load each when there is nothing to do.
    ///
    /// Ending an extent, or detaching a frame of it, calls the OS for nothing: the caller may hold
    /// locks. Call this after releasing them.
    pub fn settle(&self) {
        self.release_records(Shape::Single);
        self.release_records(Shape::Chain);
        self.zone().settle();
    }

    fn release_records(&self, shape: Shape) {
        let (records, stride) = (self.records(shape), shape.stride());
        records.ids.release_emptied(|first| {
            records.words.discard(first * stride, CHUNK * stride);
            records.owner.discard(first * records.owner_stride, CHUNK * records.owner_stride);
            self.zone().uncharge(records.chunk_bytes(shape));
        });
    }
}

impl Drop for Extents {
    fn drop(&mut self) {
        self.zone().uncharge(self.metadata_bytes() as u64);
    }
}

impl Records {
    /// Memory of the records of one chunk of numbers. Units: bytes.
    fn chunk_bytes(&self, shape: Shape) -> u64 {
        let record = shape.stride() * size_of::<u32>() + self.owner_stride * size_of::<u64>();
        (CHUNK * record) as u64
    }
}

/// Why there is no new extent. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CreateError {
    /// All numbers of its shape are taken.
    #[error("all extent numbers are taken")]
    Numbers,
    /// There is no memory for its record.
    #[error(transparent)]
    Memory(#[from] AllocError),
}

impl From<TakeError<AllocError>> for CreateError {
    fn from(error: TakeError<AllocError>) -> Self {
        match error {
            TakeError::Exhausted => Self::Numbers,
            TakeError::Refused(error) => Self::Memory(error),
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
