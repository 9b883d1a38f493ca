//! The state word of a chain.
//!
//! ```text
//!  31        24 23  22  21  20                                       0
//! +------------+---+---+---+-----------------------------------------+
//! | tag        | X | P | W | readers + 1, or 0 = vacant              |
//! +------------+---+---+---+-----------------------------------------+
//! ```
//! - tag: a byte of the owner's (zsmalloc: the size class), fixed while the chain lives.
//! - X: exclusively held. Then the low field is 1.
//! - P: pending: a thread found the chain held and left its work to the last holder that leaves.
//! - W: readers sleep until the exclusive holder leaves: one step clears both X and W.
//! - 0, as in memory that was never used or was released, means vacant.

use sync::atomic::{AtomicU32, Ordering};

/// A value of the word. Every transition is a pure function from one value to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChainState(pub(super) u32);

const READERS: u32 = (1 << 21) - 1;
const READERS_WAITING: u32 = 1 << 21;
const PENDING: u32 = 1 << 22;
const EXCLUSIVE: u32 = 1 << 23;
const TAG_SHIFT: u32 = 24;

impl ChainState {
    pub(super) const VACANT: Self = Self(0);
    pub(super) const READER: u32 = 1;
    /// The mask that an exclusive holder leaves with.
    pub(super) const UNLOCK_MASK: u32 = !(EXCLUSIVE | READERS_WAITING);

    pub(super) fn new_exclusive(tag: u8) -> Self {
        Self(u32::from(tag) << TAG_SHIFT | EXCLUSIVE | 1)
    }

    /// Applies `step` to a chain's word: `order` applies if it changes the word. Returns the value
    /// before, or `None` when `step` refuses the value found.
    pub(super) fn update(
        word: &AtomicU32,
        order: Ordering,
        step: impl Fn(Self) -> Option<Self>,
    ) -> Option<Self> {
        // Relaxed: a value that is not replaced decides nothing.
        let bits = |bits| step(Self(bits)).map(|next| next.0);
        word.fetch_update(order, Ordering::Relaxed, bits).ok().map(Self)
    }

    pub(super) fn tag(self) -> u8 {
        (self.0 >> TAG_SHIFT) as u8
    }

    pub(super) fn is_vacant(self) -> bool {
        self.0 & READERS == 0
    }

    pub(super) fn is_pending(self) -> bool {
        self.0 & PENDING != 0
    }

    fn is_exclusive(self) -> bool {
        self.0 & EXCLUSIVE != 0
    }

    pub(super) fn has_readers_waiting(self) -> bool {
        self.0 & READERS_WAITING != 0
    }

    /// Marks that a reader is about to sleep; `None` when there is no exclusive holder to wait for.
    pub(super) fn set_readers_waiting(self) -> Option<Self> {
        self.is_exclusive().then_some(Self(self.0 | READERS_WAITING))
    }

    pub(super) fn readers(self) -> u32 {
        (self.0 & READERS).saturating_sub(1)
    }

    pub(super) fn has_reached_max_readers(self) -> bool {
        self.0 & READERS == READERS
    }

    /// Adds a reader; `None` while exclusively held, vacant, or with the maximum number of readers.
    pub(super) fn add_reader(self) -> Option<Self> {
        let free = !self.is_exclusive() && !self.is_vacant() && !self.has_reached_max_readers();
        free.then(|| Self(self.0 + Self::READER))
    }

    /// Makes an idle chain exclusively held; `None` otherwise. The pending mark stays.
    pub(super) fn set_exclusive(self) -> Option<Self> {
        (self.0 & READERS == 1 && !self.is_exclusive()).then_some(Self(self.0 | EXCLUSIVE))
    }

    pub(super) fn clear_pending(self) -> Self {
        Self(self.0 & !PENDING)
    }

    /// Sets the pending mark; `None` without a holder that would see it.
    pub(super) fn set_pending(self) -> Option<Self> {
        (self.readers() > 0 || self.is_exclusive()).then_some(Self(self.0 | PENDING))
    }
}

const _: () = assert!(size_of::<ChainState>() == 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_touch_each_other() {
        for tag in [0, 1, 0x5a, 255] {
            let idle = ChainState(ChainState::new_exclusive(tag).0 & ChainState::UNLOCK_MASK);
            assert_eq!(
                (idle.tag(), idle.readers(), idle.is_exclusive(), idle.is_pending()),
                (tag, 0, false, false)
            );
            let read = idle
                .add_reader()
                .and_then(ChainState::add_reader)
                .expect("idle chains can be entered");
            assert_eq!((read.tag(), read.readers()), (tag, 2));
            let marked = read.set_pending().expect("there are readers");
            assert_eq!((marked.tag(), marked.readers(), marked.is_pending()), (tag, 2, true));
            assert_eq!(marked.clear_pending(), read);
        }
    }

    #[test]
    fn forbidden_transitions_are_refused() {
        assert_eq!(ChainState::VACANT.add_reader(), None);
        assert_eq!(ChainState::VACANT.set_exclusive(), None);
        assert_eq!(ChainState::VACANT.set_pending(), None);
        let idle = ChainState(ChainState::new_exclusive(3).0 & ChainState::UNLOCK_MASK);
        assert_eq!((idle.set_pending(), idle.set_readers_waiting()), (None, None));
        let waited = ChainState::new_exclusive(3).set_readers_waiting().expect("exclusively held");
        assert!(waited.has_readers_waiting() && waited.is_exclusive());
        assert_eq!(
            ChainState(waited.0 & ChainState::UNLOCK_MASK),
            idle,
            "the exclusive holder clears both marks when it leaves"
        );
        assert_eq!(ChainState::new_exclusive(3).add_reader(), None);
        assert_eq!(ChainState::new_exclusive(3).set_exclusive(), None);
        assert_eq!(idle.add_reader().and_then(ChainState::set_exclusive), None);
        assert_eq!(ChainState(idle.0 | READERS).add_reader(), None);
        assert!(
            ChainState(idle.0 | READERS).has_reached_max_readers()
                && !idle.has_reached_max_readers()
        );
    }
}
