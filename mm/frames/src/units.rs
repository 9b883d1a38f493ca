//! Frame numbers, orders, counts and migrate types.

use std::fmt;

use crate::geometry::{FRAME_SIZE, MAX_ORDER, PAGEBLOCK_FRAMES, PAGEBLOCK_ORDER};

/// The number of a frame of one zone; frame 0 is the first of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pfn(pub u32);

impl Pfn {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) const fn block(self) -> BlockIndex {
        BlockIndex(self.0 >> PAGEBLOCK_ORDER)
    }

    /// The number of the frame inside its pageblock.
    pub(crate) const fn offset_in_block(self) -> u32 {
        self.0 & (PAGEBLOCK_FRAMES - 1)
    }

    pub(crate) const fn plus(self, frames: u32) -> Self {
        Self(self.0 + frames)
    }

    /// The block of the same order this one merges with.
    pub(crate) const fn buddy(self, order: Order) -> Self {
        Self(self.0 ^ order.frames())
    }
}

impl fmt::Display for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame {}", self.0)
    }
}

/// The number of a pageblock: `1 << PAGEBLOCK_ORDER` neighbouring frames.
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

    /// The order `1 << exponent` frames have, or `None` when it is above [`MAX_ORDER`].
    #[must_use]
    pub const fn new(exponent: u8) -> Option<Self> {
        if exponent <= MAX_ORDER { Some(Self(exponent)) } else { None }
    }

    /// The exponent.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Frames in a block of this order.
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

    /// This order and all larger ones, ascending.
    pub(crate) fn and_larger(self) -> impl DoubleEndedIterator<Item = Self> {
        (self.0..=MAX_ORDER).map(Self)
    }

    /// The order of the largest aligned block that starts at `pfn` and ends at or before `end`.
    pub(crate) fn fitting(pfn: Pfn, end: Pfn) -> Self {
        let aligned = pfn.0.trailing_zeros();
        let room = (end.0 - pfn.0).ilog2();
        // The minimum is at most MAX_ORDER, so it fits.
        Self(aligned.min(room).min(u32::from(MAX_ORDER)) as u8)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order {}", self.0)
    }
}

/// A number of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameCount(pub u64);

impl FrameCount {
    /// As many whole frames as `bytes` need, rounded up.
    #[must_use]
    pub const fn holding(bytes: u64) -> Self {
        Self(bytes.div_ceil(FRAME_SIZE as u64))
    }

    /// What these frames hold. Units: bytes; `u64::MAX` when it is more.
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

/// What may be done with a frame later; frames of one kind share pageblocks, so that movable ones can be cleared away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MigrateType {
    /// It stays where it is until it is freed.
    Unmovable,
    /// Its owner can move the content to another frame.
    Movable,
    /// It serves contiguous allocations; movable frames may borrow it.
    Cma,
}

impl MigrateType {
    /// All of them, in the order the kernel lists them.
    pub const ALL: [Self; 3] = [Self::Unmovable, Self::Movable, Self::Cma];

    /// The kernel's name of it, as `pagetypeinfo` prints it.
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

    /// Whose pageblocks may serve a request of this type when its own have nothing left, best first.
    pub(crate) const fn fallbacks(self) -> &'static [Self] {
        match self {
            Self::Unmovable => &[Self::Movable],
            Self::Movable => &[Self::Cma, Self::Unmovable],
            Self::Cma => &[],
        }
    }
}
