//! The sizes everything in this crate is cut to.
//!
//! Constants, not parameters: a generic on every type of every layer bought nothing but noise. A build under `cfg(loom)` makes them
//! tiny, so that a model checker can walk through the real code.

/// Bytes of one frame. Units: bytes.
pub const FRAME_SIZE: usize = if cfg!(loom) { 64 } else { 4096 };

/// The most frames one chain may have.
pub const MAX_CHAIN: usize = if cfg!(loom) { 2 } else { 16 };

/// The largest block the buddy allocator hands out is `1 << MAX_ORDER` frames (4 MiB).
pub const MAX_ORDER: u8 = if cfg!(loom) { 3 } else { 10 };

/// A pageblock is `1 << PAGEBLOCK_ORDER` frames (2 MiB): the unit of migrate types and of giving memory back.
pub const PAGEBLOCK_ORDER: u8 = if cfg!(loom) { 2 } else { 9 };

/// Frames of one pageblock.
pub const PAGEBLOCK_FRAMES: u32 = 1 << PAGEBLOCK_ORDER;

/// Bytes of one pageblock. Units: bytes.
pub const PAGEBLOCK_SIZE: usize = FRAME_SIZE << PAGEBLOCK_ORDER;

/// How many orders there are: 0..=[`MAX_ORDER`].
pub(crate) const ORDERS: usize = MAX_ORDER as usize + 1;

// An order-10 block is a pair of pageblocks; the buddy code relies on there being no larger ones.
const _: () = assert!(MAX_ORDER == PAGEBLOCK_ORDER + 1);
