//! The state word of an extent.
//!
//! ```text
//!  31        24 23  22  21  20                                       0
//! +------------+---+---+---+-----------------------------------------+
//! | tag        | X | P | W | readers + 1, or 0 = vacant              |
//! +------------+---+---+---+-----------------------------------------+
//! ```
//! - tag: a byte of the owner's (zsmalloc: the size class), fixed while the extent lives.
//! - X: exclusively held. Then the low field is 1.
//! - P: pending: somebody could not do his work and left it to whoever leaves last.
//! - W: readers sleep until the exclusive holder leaves. Only together with X: both go in one step.
//! - The zero of memory that was never used, or was given back, reads as vacant.

/// One value of the word. Every change is a pure function from one value to the next; the atomics live in the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(u32);

const READERS: u32 = (1 << 21) - 1;
const WAITED_FOR: u32 = 1 << 21;
const PENDING: u32 = 1 << 22;
const EXCLUSIVE: u32 = 1 << 23;
const TAG_SHIFT: u32 = 24;

impl State {
    pub(super) const VACANT: Self = Self(0);
    /// What one reader adds.
    pub(super) const READER: u32 = 1;
    /// What the exclusive holder masks with when it leaves.
    pub(super) const OPEN: u32 = !(EXCLUSIVE | WAITED_FOR);

    /// A new extent in its creator's hands.
    pub(super) fn born(tag: u8) -> Self {
        Self(u32::from(tag) << TAG_SHIFT | EXCLUSIVE | 1)
    }

    pub(super) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub(super) fn bits(self) -> u32 {
        self.0
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

    pub(super) fn is_exclusive(self) -> bool {
        self.0 & EXCLUSIVE != 0
    }

    /// Whether readers sleep until the exclusive holder leaves.
    pub(super) fn is_waited_for(self) -> bool {
        self.0 & WAITED_FOR != 0
    }

    /// A reader is about to sleep; `None` when there is no exclusive holder to wait for.
    pub(super) fn wait(self) -> Option<Self> {
        self.is_exclusive().then_some(Self(self.0 | WAITED_FOR))
    }

    pub(super) fn readers(self) -> u32 {
        (self.0 & READERS).saturating_sub(1)
    }

    pub(super) fn is_crowded(self) -> bool {
        self.0 & READERS == READERS
    }

    /// One reader more; `None` while exclusively held, vacant, or with two million readers inside.
    pub(super) fn enter(self) -> Option<Self> {
        let free = !self.is_exclusive() && !self.is_vacant() && !self.is_crowded();
        free.then(|| Self(self.0 + Self::READER))
    }

    /// Exclusively held; only from idle. The mark stays until its work is done.
    pub(super) fn close(self) -> Option<Self> {
        (self.0 & READERS == 1 && !self.is_exclusive()).then_some(Self(self.0 | EXCLUSIVE))
    }

    /// Without the mark.
    pub(super) fn unmark(self) -> Self {
        Self(self.0 & !PENDING)
    }

    /// With the mark; only when somebody is inside to see it.
    pub(super) fn mark(self) -> Option<Self> {
        (self.readers() > 0 || self.is_exclusive()).then_some(Self(self.0 | PENDING))
    }
}

const _: () = assert!(size_of::<State>() == 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_touch_each_other() {
        for tag in [0, 1, 0x5a, 255] {
            let idle = State(State::born(tag).0 & State::OPEN);
            assert_eq!(
                (idle.tag(), idle.readers(), idle.is_exclusive(), idle.is_pending()),
                (tag, 0, false, false)
            );
            let read = idle.enter().and_then(State::enter).expect("idle extents can be entered");
            assert_eq!((read.tag(), read.readers()), (tag, 2));
            let marked = read.mark().expect("somebody is inside");
            assert_eq!((marked.tag(), marked.readers(), marked.is_pending()), (tag, 2, true));
            assert_eq!(marked.unmark(), read);
        }
    }

    #[test]
    fn transitions_that_must_not_be_are_refused() {
        assert_eq!(State::VACANT.enter(), None);
        assert_eq!(State::VACANT.close(), None);
        assert_eq!(State::VACANT.mark(), None);
        let idle = State(State::born(3).0 & State::OPEN);
        assert_eq!((idle.mark(), idle.wait()), (None, None));
        let waited = State::born(3).wait().expect("exclusively held");
        assert!(waited.is_waited_for() && waited.is_exclusive());
        assert_eq!(State(waited.0 & State::OPEN), idle, "who leaves takes both marks away");
        assert_eq!(State::born(3).enter(), None);
        assert_eq!(State::born(3).close(), None);
        assert_eq!(idle.enter().and_then(State::close), None);
        assert_eq!(State(idle.0 | READERS).enter(), None);
        assert!(State(idle.0 | READERS).is_crowded() && !idle.is_crowded());
    }
}
