//! Frame numbers, orders, counts and migrate types.

use std::fmt;

use crate::geometry::{FRAME_SIZE, MAX_ORDER, PAGEBLOCK_FRAMES, PAGEBLOCK_ORDER};

/// The number of a frame in its zone. Frame 0 is the first of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pfn(pub u32);

impl Pfn {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) const fn block(self) -> BlockIndex {
        BlockIndex(self.0 >> PAGEBLOCK_ORDER)
    }

    /// Returns the position of the frame in its pageblock.
    pub(crate) const fn offset_in_block(self) -> u32 {
        self.0 & (PAGEBLOCK_FRAMES - 1)
    }

    pub(crate) const fn plus(self, frames: u32) -> Self {
        Self(self.0 + frames)
    }

    /// Returns the first frame of the block of the same order that this one can merge with.
    pub(crate) const fn buddy(self, order: Order) -> Self {
        Self(self.0 ^ order.frames())
    }
}

impl fmt::Display for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame {}", self.0)
    }
}

/// The number of a pageblock: `1 << PAGEBLOCK_ORDER` adjacent frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BlockIndex(pub(crate) u32);

impl BlockIndex {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) const fn first(self) -> Pfn {
        Pfn(self.0 << PAGEBLOCK_ORDER)
    }
}

/// The size of a block of frames as a power of two, 0..=[`MAX_ORDER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order(u8);

impl Order {
    /// One frame.
    pub const SINGLE: Self = Self(0);
    /// One pageblock.
    pub const PAGEBLOCK: Self = Self(PAGEBLOCK_ORDER);
    /// The largest block.
    pub const MAX: Self = Self(MAX_ORDER);

    /// Returns the order of a block of `1 << exponent` frames; `None` above [`MAX_ORDER`].
    #[must_use]
    pub const fn new(exponent: u8) -> Option<Self> {
        if exponent <= MAX_ORDER { Some(Self(exponent)) } else { None }
    }

    /// Returns the exponent.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Returns the number of frames in a block of this order.
    #[must_use]
    pub const fn frames(self) -> u32 {
        1 << self.0
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }

    /// Iterates over this order and all larger ones, ascending.
    pub(crate) fn and_larger(self) -> impl DoubleEndedIterator<Item = Self> {
        (self.0..=MAX_ORDER).map(Self)
    }

    /// Returns the order of the largest aligned block that starts at `pfn` and ends by `end`.
    pub(crate) fn fitting(pfn: Pfn, end: Pfn) -> Self {
        let exponent = pfn.0.trailing_zeros().min((end.0 - pfn.0).ilog2());
        // At most MAX_ORDER, so it fits.
        Self(exponent.min(u32::from(MAX_ORDER)) as u8)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order {}", self.0)
    }
}

/// A number of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FrameCount(pub u64);

impl FrameCount {
    /// Returns the number of whole frames that `bytes` bytes need.
    #[must_use]
    pub const fn holding(bytes: u64) -> Self {
        Self(bytes.div_ceil(FRAME_SIZE as u64))
    }

    /// Returns the size of these frames, or `u64::MAX` if it is larger. Units: bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0.saturating_mul(FRAME_SIZE as u64)
    }
}

impl fmt::Display for FrameCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} frames", self.0)
    }
}

/// Whether a frame can be moved. Frames of one type share pageblocks, so that some can be emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MigrateType {
    /// It stays where it is until it is freed.
    Unmovable,
    /// Its owner can move the content to another frame.
    Movable,
    /// It is in the CMA region for contiguous allocations; movable frames may borrow it.
    Cma,
}

impl MigrateType {
    /// All types, in the kernel's order.
    pub const ALL: [Self; 3] = [Self::Unmovable, Self::Movable, Self::Cma];

    /// Returns the kernel's name of the type, as `pagetypeinfo` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unmovable => "Unmovable",
            Self::Movable => "Movable",
            Self::Cma => "CMA",
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// Returns the types that serve a request when its own type has no frame left, best first.
    pub(crate) const fn fallbacks(self) -> &'static [Self] {
        match self {
            Self::Unmovable => &[Self::Movable],
            Self::Movable => &[Self::Cma, Self::Unmovable],
            Self::Cma => &[],
        }
    }
}
