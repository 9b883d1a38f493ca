//! One descriptor for each frame: 16 bytes beside the arena.
//!
//! ```text
//!  word 0  state        what the frame is, see `State`
//!  word 1  private      what its owner calls it: a number plus 1 (chains: the chain), or 0
//!  word 2  link         free block: the next one on its list; used frame: its position under that name
//!  word 3  link         free block: the one before it on its list
//! ```
//! They live in one reserved table. Only those of committed pageblocks are ever touched, and they go back with their block.

use sync::atomic::AtomicU32;
use sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use sys::{Backing, MapError, Table};

use crate::error::PutError;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::state::{Kind, OwnerId, State};
use crate::units::{BlockIndex, Order, Pfn};

/// Words of one descriptor.
const WORDS: usize = 4;
const PRIVATE: usize = 1;
const NEXT: usize = 2;
const PREVIOUS: usize = 3;

/// Bytes of one descriptor; the kernel spends 64.
pub(crate) const DESCRIPTOR_SIZE: usize = WORDS * size_of::<AtomicU32>();
const _: () = assert!(DESCRIPTOR_SIZE == 16 || cfg!(any(loom, shuttle)));

/// What is left after a reference was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// Others still own the frame.
    Shared,
    /// The caller was the last one and now has a block of this order to free.
    Last(Order),
}

/// All descriptors of a zone.
#[derive(Debug)]
pub(crate) struct Descriptors {
    words: Table<AtomicU32>,
}

impl Descriptors {
    pub(crate) fn reserve(frames: usize, backing: Backing) -> Result<Self, MapError> {
        let len = frames.checked_mul(WORDS).ok_or(MapError::Length { len: frames })?;
        Ok(Self { words: Table::reserve(len, backing)? })
    }

    fn word(&self, pfn: Pfn, word: usize) -> &AtomicU32 {
        &self.words[pfn.index() * WORDS + word]
    }

    /// Starts loading a descriptor. Only a hint.
    pub(crate) fn prefetch(&self, pfn: Pfn) {
        sys::prefetch(self.word(pfn, 0));
    }

    pub(crate) fn state(&self, pfn: Pfn) -> State {
        // Acquire: pairs with the release half of every change below, so that what was written before a frame became free is seen.
        State::from_bits(self.word(pfn, 0).load(Acquire))
    }

    fn swap(&self, pfn: Pfn, from: State, to: State) -> Result<(), State> {
        self.word(pfn, 0)
            .compare_exchange(from.bits(), to.bits(), AcqRel, Acquire)
            .map(drop)
            .map_err(State::from_bits)
    }

    /// Changes a state that only the caller may change: that of a frame nobody has a reference to, under the lock of the list it is on. Without
    /// references no compare-and-swap of others can succeed, so a plain store is enough.
    ///
    /// # Panics
    /// When it is not `from`: the frame has two owners and going on would hand its bytes to both.
    pub(crate) fn change(&self, pfn: Pfn, from: State, to: State) {
        let word = self.word(pfn, 0);
        // Relaxed: the lock orders what the last holder wrote.
        let found = State::from_bits(word.load(Relaxed));
        assert!(found == from, "{pfn} should be {from:?} but is {found:?}");
        // Release: pairs with the Acquire in `state`; who gets a reference sees the frame as its owner made it.
        word.store(to.bits(), Release);
    }

    /// Takes one more reference unless there is none (R-008).
    pub(crate) fn get_unless_zero(&self, pfn: Pfn) -> bool {
        let mut state = self.state(pfn);
        while let (Some(Kind::Used), Some(more)) = (state.kind(), state.with_reference()) {
            match self.swap(pfn, state, more) {
                Ok(()) => return true,
                Err(found) => state = found,
            }
        }
        false
    }

    /// Freezes a single frame in use whose only reference is the caller's. `false` when there are others, or it has an owner.
    pub(crate) fn freeze(&self, pfn: Pfn) -> bool {
        self.swap(pfn, State::used(Order::SINGLE), State::FROZEN).is_ok()
    }

    /// Gives one reference back. With the last one the frame leaves "used" (R-006).
    pub(crate) fn put(&self, pfn: Pfn) -> Result<Put, PutError> {
        let mut state = self.state(pfn);
        loop {
            let (Some(Kind::Used | Kind::Frozen), Some(order)) = (state.kind(), state.order())
            else {
                return Err(PutError::NotInUse { pfn });
            };
            let (next, put) = match state.without_reference() {
                Some(fewer) => (fewer, Put::Shared),
                None if state.is_locked() || state.is_isolated() => {
                    return Err(PutError::Busy { pfn });
                }
                None if state.owner().is_some() => return Err(PutError::Movable { pfn }),
                None if order == Order::SINGLE => (State::CACHED, Put::Last(order)),
                None => (State::INSIDE, Put::Last(order)),
            };
            match self.swap(pfn, state, next) {
                Ok(()) => return Ok(put),
                Err(found) => state = found,
            }
        }
    }

    /// Applies `change` to the state of a frame somebody has a reference to, and returns what it was before; `None` from `change` means leave it.
    pub(crate) fn update(
        &self,
        pfn: Pfn,
        change: impl Fn(State) -> Option<State>,
    ) -> Option<State> {
        let mut state = self.state(pfn);
        loop {
            match self.swap(pfn, state, change(state)?) {
                Ok(()) => return Some(state),
                Err(found) => state = found,
            }
        }
    }

    /// The owner lets go: the frame is no longer movable and has one reference less, in one step, so that whoever isolated it finds it either
    /// as it was or given up (R-054). `None` when it is not `owner`'s.
    pub(crate) fn clear_movable(&self, pfn: Pfn, owner: OwnerId) -> Option<Put> {
        let before = self.update(pfn, |state| {
            state.owner().filter(|&found| found == owner)?;
            let without_owner = state.without_owner();
            // With the last reference nobody can have it locked or isolated: whoever has holds a reference.
            Some(without_owner.without_reference().unwrap_or(State::CACHED))
        })?;
        Some(if before.references() > 1 { Put::Shared } else { Put::Last(Order::SINGLE) })
    }

    /// Notes what its owner calls the frame. Only that owner calls this, with the frame in use.
    pub(crate) fn set_private(&self, pfn: Pfn, private: u32, position: u8) {
        // Relaxed: a thread that acts on a name takes the owner's lock and looks again. 0 is none: the last number is no name.
        self.word(pfn, PRIVATE).store(private + 1, Relaxed);
        self.word(pfn, NEXT).store(u32::from(position), Relaxed);
    }

    /// Forgets the name.
    pub(crate) fn clear_private(&self, pfn: Pfn) {
        // Relaxed: see set_private.
        self.word(pfn, PRIVATE).store(0, Relaxed);
    }

    /// Name and position as last set.
    pub(crate) fn private(&self, pfn: Pfn) -> Option<(u32, u8)> {
        // Relaxed: see set_private.
        let private = self.word(pfn, PRIVATE).load(Relaxed).checked_sub(1)?;
        // The position was a byte when it was stored.
        Some((private, self.word(pfn, NEXT).load(Relaxed) as u8))
    }

    pub(crate) fn next(&self, pfn: Pfn) -> u32 {
        // Relaxed: links change under the zone lock only; so for the three below.
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

    /// Gives the memory of a whole pageblock's descriptors back. All of them must be "inside".
    pub(crate) fn discard(&self, block: BlockIndex) {
        self.words.discard(block.first().index() * WORDS, PAGEBLOCK_FRAMES as usize * WORDS);
    }
}
