//! Size classes: which sizes there are, how many frames their zspages have, which of them share one class.
//!
//! Raw classes step by 16 bytes from 32 to 4096. For each, a rule picks the chain of frames that packs best; neighbours whose zspages come
//! out alike (same frames, same objects) are merged upwards. A class of one object a zspage is *huge*: its objects carry no header.

use frames::{FRAME_SIZE, MAX_CHAIN};

/// Bytes between raw classes.
pub(crate) const CLASS_STEP: usize = FRAME_SIZE / 256 + if FRAME_SIZE < 256 { 8 } else { 0 };
/// The smallest raw class. Units: bytes.
pub(crate) const MIN_CLASS_SIZE: usize = if FRAME_SIZE < 256 { 16 } else { 32 };
/// Raw classes: 255 with 4 KiB frames (C-07).
pub(crate) const RAW_CLASSES: usize = (FRAME_SIZE - MIN_CLASS_SIZE) / CLASS_STEP + 1;
/// Bytes before each object that is not huge: its handle's index.
pub(crate) const HEADER_SIZE: usize = 4;
/// Objects a zspage can have, since its free map has that many bits.
pub(crate) const MAX_ZSPAGE_OBJECTS: usize = 256;

/// How a class chooses its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainRule {
    /// The largest used share in whole percent, the shorter chain on a tie: the rule of 2016.
    UsedPercent,
    /// The fewest bytes left over in a zspage, the shorter chain on a tie: the kernel's rule today.
    LeastWaste,
}

impl ChainRule {
    /// Frames in a zspage of `size`-byte objects, at most `longest`.
    fn chain(self, size: usize, longest: usize) -> usize {
        let better = |best: usize, next: usize| match self {
            Self::UsedPercent => used_percent(next, size) > used_percent(best, size),
            Self::LeastWaste => waste(next, size) < waste(best, size),
        };
        let fits = |&frames: &usize| frames * FRAME_SIZE / size <= MAX_ZSPAGE_OBJECTS;
        (2..=longest)
            .filter(fits)
            .fold(1, |best, next| if better(best, next) { next } else { best })
    }
}

fn waste(frames: usize, size: usize) -> usize {
    frames * FRAME_SIZE % size
}

fn used_percent(frames: usize, size: usize) -> usize {
    (frames * FRAME_SIZE - waste(frames, size)) * 100 / (frames * FRAME_SIZE)
}

/// The shape of one class's zspages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeClass {
    /// The raw class it is known by.
    pub index: u8,
    /// Bytes an object takes, header included.
    pub size: u16,
    /// Frames in a full zspage.
    pub frames: u8,
    /// Objects in a full zspage.
    pub objects: u16,
}

impl SizeClass {
    /// Whether a zspage is one frame with one object: then there is no header.
    #[must_use]
    pub fn is_huge(self) -> bool {
        self.objects == 1 && self.frames == 1
    }

    /// Bytes before the payload.
    pub(crate) fn header(self) -> usize {
        if self.is_huge() { 0 } else { HEADER_SIZE }
    }

    /// Frames that `objects` objects take when they are packed: all zspages full but one, and that one packed to its front.
    #[must_use]
    pub fn frames_for(self, objects: u64) -> u64 {
        let (full, rest) = (objects / u64::from(self.objects), objects % u64::from(self.objects));
        full * u64::from(self.frames) + (rest * u64::from(self.size)).div_ceil(FRAME_SIZE as u64)
    }

    /// The longest payload.
    #[must_use]
    pub fn payload(self) -> usize {
        usize::from(self.size) - self.header()
    }
}

/// All classes of a pool.
#[derive(Debug)]
pub struct SizeClasses {
    /// For each raw class the class it was merged into.
    merged: Box<[SizeClass]>,
    largest_with_header: usize,
}

impl SizeClasses {
    /// The classes for zspages of at most `chain` frames.
    ///
    /// # Panics
    /// When `chain` is 0 or above 16: pools check that before.
    #[must_use]
    pub fn new(chain: usize, rule: ChainRule) -> Self {
        assert!((1..=MAX_CHAIN).contains(&chain), "a zspage has 1 to {MAX_CHAIN} frames");
        let mut merged: Vec<SizeClass> = Vec::with_capacity(RAW_CLASSES);
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
            let alike = merged
                .last()
                .filter(|next| next.frames == own.frames && next.objects == own.objects);
            merged.push(alike.copied().unwrap_or(own));
        }
        merged.reverse();
        let headed = merged.iter().rev().find(|class| !class.is_huge()).copied();
        let largest_with_header = headed.map_or(0, SizeClass::payload);
        Self { merged: merged.into(), largest_with_header }
    }

    /// The class for a payload of `len` bytes; `None` when it is 0 or longer than a frame.
    #[must_use]
    pub fn for_len(&self, len: usize) -> Option<SizeClass> {
        if len == 0 || len > FRAME_SIZE {
            return None;
        }
        let raw = (len + HEADER_SIZE).saturating_sub(MIN_CLASS_SIZE).div_ceil(CLASS_STEP);
        // With its header a payload just below a frame would need a class past the last: that one is huge and takes none.
        Some(self.merged[raw.min(RAW_CLASSES - 1)])
    }

    /// The class a raw index was merged into.
    #[must_use]
    pub fn by_index(&self, raw: u8) -> Option<SizeClass> {
        self.merged.get(usize::from(raw)).copied()
    }

    /// The longest payload that is not stored in the huge class. Units: bytes.
    #[must_use]
    pub fn largest_with_header(&self) -> usize {
        self.largest_with_header
    }

    /// Every distinct class, smallest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = SizeClass> {
        self.merged
            .iter()
            .enumerate()
            .filter(|(raw, class)| usize::from(class.index) == *raw)
            .map(|(_, class)| *class)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
