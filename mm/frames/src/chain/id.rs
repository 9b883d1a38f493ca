//! The numbers of chains.

use crate::geometry::MAX_CHAIN;

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
    pub(super) const fn stride(self) -> usize {
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

    pub(super) fn new(kind: ChainKind, index: u32) -> Self {
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
