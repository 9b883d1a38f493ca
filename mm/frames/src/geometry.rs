//! The sizes of frames, blocks and chains.
//!
//! They are constants, not generic parameters, which would appear on every type of every layer.
//! Under `cfg(loom)` they are tiny, so that loom can run the real code.

/// The size of one frame. Units: bytes.
pub const FRAME_SIZE: usize = if cfg!(loom) { 64 } else { 4096 };

/// The most frames of one chain.
pub const MAX_CHAIN: usize = if cfg!(loom) { 2 } else { 16 };

/// The order of the largest block of the buddy allocator: 4 MiB.
pub const MAX_ORDER: u8 = if cfg!(loom) { 3 } else { 10 };

/// The order of a pageblock: 2 MiB. Migrate types are kept and memory is decommitted by pageblock.
pub const PAGEBLOCK_ORDER: u8 = if cfg!(loom) { 2 } else { 9 };

/// The number of frames in a pageblock.
pub const PAGEBLOCK_FRAMES: u32 = 1 << PAGEBLOCK_ORDER;

/// The size of a pageblock. Units: bytes.
pub const PAGEBLOCK_SIZE: usize = FRAME_SIZE << PAGEBLOCK_ORDER;

/// The number of orders: 0..=[`MAX_ORDER`].
pub(crate) const ORDERS: usize = MAX_ORDER as usize + 1;

// An order-10 block is a pair of pageblocks. The buddy code relies on it being the largest.
const _: () = assert!(MAX_ORDER == PAGEBLOCK_ORDER + 1);

/// Rounds up to the pages that the OS commits. Units: bytes.
pub(crate) fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(sys::page_size() as u64)
}
