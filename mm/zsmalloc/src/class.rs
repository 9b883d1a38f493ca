//! Size classes: their sizes, the frames of their zspages, and which raw classes are merged.
//!
//! Raw classes go from 32 to 4096 bytes in steps of 16. A rule picks the chain length that packs
//! each best. Neighbours whose zspages have the same frames and objects are merged upwards. A
//! class whose zspage is one frame with one object is *huge*: its objects have no header.

use std::ops::RangeInclusive;

use frames::{FRAME_SIZE, MAX_CHAIN};

/// Length of the longest object. Units: bytes.
pub const MAX_OBJECT: usize = FRAME_SIZE;
/// Difference between the sizes of two raw classes. Units: bytes.
pub(crate) const CLASS_STEP: usize = FRAME_SIZE / 256 + if FRAME_SIZE < 256 { 8 } else { 0 };
/// Size of the smallest raw class. Units: bytes.
pub(crate) const MIN_CLASS_SIZE: usize = if FRAME_SIZE < 256 { 16 } else { 32 };
/// Number of raw classes: 255 with 4 KiB frames (C-07).
pub(crate) const RAW_CLASSES: usize = (FRAME_SIZE - MIN_CLASS_SIZE) / CLASS_STEP + 1;
/// Size of the header before each object that is not huge: its handle's index. Units: bytes.
pub(crate) const HEADER_SIZE: usize = 4;
/// Maximum number of objects in a zspage, which is the size of its free map. Units: bits.
pub(crate) const MAX_ZSPAGE_OBJECTS: usize = 256;

/// Rule that picks the chain length of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainRule {
    /// The largest used percentage, the shorter chain on a tie: the rule of 2016.
    UsedPercent,
    /// The fewest unused bytes in a zspage; the shorter chain on a tie: the kernel's current rule.
    LeastWaste,
}

impl ChainRule {
    /// Returns the frames in a zspage of `size`-byte objects, at most `longest`.
    fn chain(self, size: usize, longest: usize) -> usize {
        let cost = |&frames: &usize| {
            let (bytes, waste) = (frames * FRAME_SIZE, frames * FRAME_SIZE % size);
            match self {
                Self::UsedPercent => 100 - (bytes - waste) * 100 / bytes,
                Self::LeastWaste => waste,
            }
        };
        let fits = |&frames: &usize| frames * FRAME_SIZE / size <= MAX_ZSPAGE_OBJECTS;
        // The first of those with the least cost: the shorter chain on a tie.
        (1..=longest).filter(fits).min_by_key(cost).unwrap_or(1)
    }
}

/// Shape of a class's zspages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeClass {
    /// Number of its largest raw class.
    pub index: u8,
    /// Size of an object with its header. Units: bytes.
    pub size: u16,
    /// Frames in a full zspage.
    pub frames: u8,
    /// Objects in a full zspage.
    pub objects: u16,
}

impl SizeClass {
    /// Returns whether a zspage is one frame with one object, which has no header.
    #[must_use]
    pub fn is_huge(self) -> bool {
        self.objects == 1 && self.frames == 1
    }

    /// Returns the size of the header before the payload. Units: bytes.
    pub(crate) fn header(self) -> usize {
        if self.is_huge() { 0 } else { HEADER_SIZE }
    }

    /// Returns the frames that `objects` objects need when packed: all zspages but one are full,
    /// and the last is packed to its front.
    #[must_use]
    pub fn frames_for(self, objects: u64) -> u64 {
        let (full, rest) = (objects / u64::from(self.objects), objects % u64::from(self.objects));
        full * u64::from(self.frames) + (rest * u64::from(self.size)).div_ceil(FRAME_SIZE as u64)
    }

    /// Returns the length of the longest payload. Units: bytes.
    #[must_use]
    pub fn payload(self) -> usize {
        usize::from(self.size) - self.header()
    }

    /// Returns the positions of the frames that an object has bytes in.
    pub(crate) fn frames_of(self, object: u16) -> RangeInclusive<usize> {
        let (size, first) = (usize::from(self.size), usize::from(object) * usize::from(self.size));
        first / FRAME_SIZE..=(first + size - 1) / FRAME_SIZE
    }

    /// Returns whether freeing the `last` object empties a frame; `below` is the live one before.
    pub(crate) fn empties_frame(self, last: u16, below: Option<u16>) -> bool {
        let end = |object| *self.frames_of(object).end();
        below.is_none_or(|below| end(below) < end(last))
    }
}

/// All classes of a pool.
#[derive(Debug)]
pub struct SizeClasses {
    /// For each raw class, the class it was merged into.
    pub(crate) merged: Box<[SizeClass]>,
    largest_with_header: usize,
}

impl SizeClasses {
    /// Builds the classes for zspages of at most `chain` frames.
    ///
    /// # Panics
    /// Panics when `chain` is 0 or above 16; [`Pool::new`](crate::Pool::new) checks it before.
    #[must_use]
    pub fn new(chain: usize, rule: ChainRule) -> Self {
        assert!(
            (1..=MAX_CHAIN).contains(&chain),
            "invalid zspage length {chain}: allowed are 1 to {MAX_CHAIN} frames"
        );
        let mut merged: Vec<SizeClass> = Vec::with_capacity(RAW_CLASSES);
        // From the largest to the smallest, so that each merges into the one above it.
        for raw in (0..RAW_CLASSES).rev() {
            let size = MIN_CLASS_SIZE + raw * CLASS_STEP;
            let frames = rule.chain(size, chain);
            let objects = frames * FRAME_SIZE / size;
            let own = SizeClass {
                index: raw as u8,
                size: size as u16,
                frames: frames as u8,
                objects: objects as u16,
            };
            let alike = |c: &&SizeClass| c.frames == own.frames && c.objects == own.objects;
            merged.push(merged.last().filter(alike).copied().unwrap_or(own));
        }
        merged.reverse();
        let headed = merged.iter().rev().find(|class| !class.is_huge()).copied();
        let largest_with_header = headed.map_or(0, SizeClass::payload);
        Self { merged: merged.into(), largest_with_header }
    }

    /// Returns the class for a payload of one byte to a frame, or `None` for others.
    #[must_use]
    pub fn for_len(&self, len: usize) -> Option<SizeClass> {
        if len == 0 || len > FRAME_SIZE {
            return None;
        }
        let raw = (len + HEADER_SIZE).saturating_sub(MIN_CLASS_SIZE).div_ceil(CLASS_STEP);
        // A payload just below a frame would, with a header, need a class past the last. It is
        // stored in the huge class, which has no header.
        Some(self.merged[raw.min(RAW_CLASSES - 1)])
    }

    /// Returns the class that a raw class was merged into.
    pub(crate) fn by_index(&self, raw: u8) -> Option<SizeClass> {
        self.merged.get(usize::from(raw)).copied()
    }

    /// Returns the length of the longest payload outside the huge class. Units: bytes.
    #[must_use]
    pub fn largest_with_header(&self) -> usize {
        self.largest_with_header
    }

    /// Iterates over the distinct classes, smallest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = SizeClass> {
        let raw_classes = self.merged.iter().enumerate();
        raw_classes.filter_map(|(raw, class)| (usize::from(class.index) == raw).then_some(*class))
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
