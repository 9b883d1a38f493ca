//! Fullness groups: which zspage is filled next, and which is emptied first.

/// Number of fullness groups: empty, ten steps of ten percent, full.
pub const FULLNESS_GROUPS: usize = 12;

/// Fill level of a zspage: 0 = empty, 1..=10 = up to 10 %, 20 %, ... 99 %, 11 = full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FullnessGroup(u8);

impl FullnessGroup {
    /// No live object: the zspage waits to be freed or used again.
    pub const EMPTY: Self = Self(0);
    /// No free object.
    pub const FULL: Self = Self(FULLNESS_GROUPS as u8 - 1);

    /// Returns the group of a zspage with `used` of `objects` slots live.
    #[must_use]
    pub fn of(used: u16, objects: u16) -> Self {
        match used {
            0 => Self::EMPTY,
            _ if used >= objects => Self::FULL,
            _ => Self(1 + (u32::from(used) * 10 / u32::from(objects)) as u8),
        }
    }

    /// Returns the group with this number.
    pub(crate) fn from_index(index: usize) -> Option<Self> {
        (index < FULLNESS_GROUPS).then_some(Self(index as u8))
    }

    /// Returns the group's number, below [`FULLNESS_GROUPS`].
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Iterates over the groups with both live and free objects, fullest first: allocation order.
    pub(crate) fn partial_fullest_first() -> impl DoubleEndedIterator<Item = Self> {
        (Self::EMPTY.0 + 1..Self::FULL.0).rev().map(Self)
    }
}
