//! The frame descriptors: 16 bytes beside the arena for each frame.
//!
//! ```text
//!  word 0  state     what the frame is, see `State`
//!  word 1  private   the owner's number for it plus 1 (chains: the chain), or 0
//!  word 2  link      free block: the next one on its list; used frame: position under that number
//!  word 3  link      free block: the previous one on its list
//! ```
//! Only those of committed pageblocks are ever touched. They are decommitted with their pageblock.

use sync::atomic::AtomicU32;
use sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use sys::{Backing, MapError, Table};

use super::state::{Kind, OwnerId, State};
use crate::error::PutError;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::units::{BlockIndex, Order, Pfn};

/// The link that names no frame.
pub(crate) const NO_FRAME: u32 = u32::MAX;

/// Words of one descriptor.
const WORDS: usize = 4;
const PRIVATE: usize = 1;
const NEXT: usize = 2;
const PREVIOUS: usize = 3;

/// The size of one descriptor; the kernel's takes 64. Units: bytes.
pub(crate) const DESCRIPTOR_SIZE: usize = WORDS * size_of::<AtomicU32>();
const _: () = assert!(DESCRIPTOR_SIZE == 16 || cfg!(any(loom, shuttle)));

/// What remains after a reference was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// Other references to the frame.
    Shared,
    /// No reference. The caller must free a block of this order.
    Last(Order),
}

/// All descriptors of a zone.
#[derive(Debug)]
pub(crate) struct Descriptors {
    words: Table<AtomicU32>,
}

impl Descriptors {
    /// Reserves a table of descriptors, all "inside".
    ///
    /// # Errors
    /// [`MapError`] when there are too many, or the OS refuses the addresses.
    pub(crate) fn reserve(frames: usize, backing: Backing) -> Result<Self, MapError> {
        let len = frames.checked_mul(WORDS).ok_or(MapError::Length { len: frames })?;
        Ok(Self { words: Table::reserve(len, backing)? })
    }

    fn word(&self, pfn: Pfn, word: usize) -> &AtomicU32 {
        &self.words[pfn.index() * WORDS + word]
    }

    /// Starts loading a descriptor into the cache. Only a hint.
    pub(crate) fn prefetch(&self, pfn: Pfn) {
        sys::prefetch(self.word(pfn, 0));
    }

    /// Returns the state of a frame.
    pub(crate) fn state(&self, pfn: Pfn) -> State {
        // Acquire: pairs with the release half of every change below, so that what was written
        // before a frame became free is seen.
        State(self.word(pfn, 0).load(Acquire))
    }

    /// Replaces the state `from` by `to`. Returns the state found if it is another.
    fn swap(&self, pfn: Pfn, from: State, to: State) -> Result<(), State> {
        self.word(pfn, 0).compare_exchange(from.0, to.0, AcqRel, Acquire).map(drop).map_err(State)
    }

    /// Changes the state of a frame without references. The caller must hold the lock of the list
    /// that the frame is on. Without references no compare-and-swap of another thread can succeed,
    /// so a plain store is enough.
    ///
    /// # Panics
    /// When the state is not `from`: the frame has two owners, and both would use its bytes.
    pub(crate) fn change(&self, pfn: Pfn, from: State, to: State) {
        let word = self.word(pfn, 0);
        // Relaxed: the lock orders the writes of the last holder.
        let found = State(word.load(Relaxed));
        assert!(found == from, "{pfn} must be {from:?} but is {found:?}");
        // Release: pairs with the Acquire in `state`, for a thread that gets a reference.
        word.store(to.0, Release);
    }

    /// Takes one more reference, unless the frame has none (R-008). Returns whether it did.
    pub(crate) fn get_unless_zero(&self, pfn: Pfn) -> bool {
        let more = |state: State| match state.kind() {
            Some(Kind::Used) => state.with_reference(),
            _ => None,
        };
        self.update(pfn, more).is_some()
    }

    /// Freezes a single frame in use whose only reference is the caller's. Returns `false` when
    /// there are other references or the frame has an owner.
    pub(crate) fn freeze(&self, pfn: Pfn) -> bool {
        self.swap(pfn, State::used(Order::SINGLE), State::FROZEN).is_ok()
    }

    /// Puts one reference. With the last one the frame is no longer in use (R-006).
    ///
    /// # Errors
    /// [`PutError`]; nothing has changed then.
    pub(crate) fn put(&self, pfn: Pfn) -> Result<Put, PutError> {
        let mut state = self.state(pfn);
        loop {
            let (Some(Kind::Used | Kind::Frozen), Some(order)) = (state.kind(), state.order())
            else {
                return Err(PutError::NotInUse(pfn));
            };
            let (next, put) = match state.without_reference() {
                Some(fewer) => (fewer, Put::Shared),
                None if state.is_locked() || state.is_isolated() => {
                    return Err(PutError::Busy(pfn));
                }
                None if state.owner().is_some() => return Err(PutError::Movable(pfn)),
                None if order == Order::SINGLE => (State::CACHED, Put::Last(order)),
                None => (State::INSIDE, Put::Last(order)),
            };
            match self.swap(pfn, state, next) {
                Ok(()) => return Ok(put),
                Err(found) => state = found,
            }
        }
    }

    /// Puts one reference and returns the order of the block if it was the last one.
    ///
    /// # Panics
    /// When [`Descriptors::put`] refuses, unless the thread is already unwinding: a second panic
    /// would abort, so the frame is only lost.
    pub(crate) fn put_last(&self, pfn: Pfn) -> Option<Order> {
        match self.put(pfn) {
            Ok(Put::Shared) => None,
            Ok(Put::Last(order)) => Some(order),
            Err(_) if std::thread::panicking() => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Applies `change` to the state of a frame that has a reference, and returns the previous
    /// state. `None` from `change` leaves the state as it is.
    pub(crate) fn update(
        &self,
        pfn: Pfn,
        change: impl Fn(State) -> Option<State>,
    ) -> Option<State> {
        let bits = |bits| change(State(bits)).map(|state| state.0);
        self.word(pfn, 0).fetch_update(AcqRel, Acquire, bits).ok().map(State)
    }

    /// Ends ownership: the frame is no longer movable and has one reference less. Both change in
    /// one step, so a thread that isolated the frame finds it either as it was or released (R-054).
    /// Returns `None` when the frame does not belong to `owner`.
    pub(crate) fn clear_movable(&self, pfn: Pfn, owner: OwnerId) -> Option<Put> {
        let before = self.update(pfn, |state| {
            state.owner().filter(|&found| found == owner)?;
            let without_owner = state.without_owner();
            // Each thread that locked or isolated the frame holds a reference, so with the last
            // reference it is neither.
            Some(without_owner.without_reference().unwrap_or(State::CACHED))
        })?;
        Some(if before.references() > 1 { Put::Shared } else { Put::Last(Order::SINGLE) })
    }

    /// Stores the owner's number for the frame in use, and a position under that number.
    pub(crate) fn set_private(&self, pfn: Pfn, private: u32, position: u8) {
        // Relaxed, here and below: a thread that acts on the number takes the owner's lock and
        // checks it again. 0 means none, so the largest number cannot be stored.
        self.word(pfn, PRIVATE).store(private + 1, Relaxed);
        self.word(pfn, NEXT).store(u32::from(position), Relaxed);
    }

    pub(crate) fn clear_private(&self, pfn: Pfn) {
        self.word(pfn, PRIVATE).store(0, Relaxed);
    }

    /// Returns the owner's number and the position as last set.
    pub(crate) fn private(&self, pfn: Pfn) -> Option<(u32, u8)> {
        let private = self.word(pfn, PRIVATE).load(Relaxed).checked_sub(1)?;
        // The position was a byte when it was stored.
        Some((private, self.word(pfn, NEXT).load(Relaxed) as u8))
    }

    pub(crate) fn next(&self, pfn: Pfn) -> u32 {
        // Relaxed: links change under the zone lock only, in the three functions below too.
        self.word(pfn, NEXT).load(Relaxed)
    }

    pub(crate) fn set_next(&self, pfn: Pfn, next: u32) {
        self.word(pfn, NEXT).store(next, Relaxed);
    }

    pub(crate) fn previous(&self, pfn: Pfn) -> u32 {
        self.word(pfn, PREVIOUS).load(Relaxed)
    }

    pub(crate) fn set_previous(&self, pfn: Pfn, previous: u32) {
        self.word(pfn, PREVIOUS).store(previous, Relaxed);
    }

    /// Decommits the descriptors of a whole pageblock. All of them must be "inside".
    pub(crate) fn discard(&self, block: BlockIndex) {
        self.words.discard(block.first().index() * WORDS, PAGEBLOCK_FRAMES as usize * WORDS);
    }
}
