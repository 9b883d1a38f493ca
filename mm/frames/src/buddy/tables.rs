//! The metadata tables of a zone: one entry for each frame or pageblock.

use std::sync::Arc;

use sys::memory_failure::FailedPages;
use sys::{Backing, MapError};

use super::bitmap::BlockSet;
use super::pageblock::Pageblocks;
use crate::geometry::{FRAME_SIZE, PAGEBLOCK_FRAMES};
use crate::page::{DESCRIPTOR_SIZE, Descriptors};
use crate::units::MigrateType;

/// All tables of a zone. Their addresses are reserved at once; memory is committed on first touch.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) frames: Descriptors,
    pub(crate) blocks: Pageblocks,
    /// Committed pageblocks of each type that have a free frame.
    pub(crate) available: [BlockSet; MigrateType::ALL.len()],
    /// Committed pageblocks all of whose frames are free.
    pub(crate) idle: BlockSet,
    /// Free pageblocks without memory.
    pub(crate) released: BlockSet,
    /// Committed pageblocks with a frame that is not free.
    pub(crate) in_use: BlockSet,
    /// Pageblocks in which compaction found nothing to move: a hint.
    pub(crate) skip: BlockSet,
    /// Frames whose memory has failed. Not counted as memory: it is committed only where a frame
    /// fails.
    pub(crate) failed: Arc<FailedPages>,
    /// The number of pageblocks in the arena.
    pub(crate) len: u32,
}

impl Tables {
    /// Reserves the tables of `blocks` pageblocks that are all offline.
    ///
    /// # Errors
    /// [`MapError`] when the OS refuses the addresses.
    pub(crate) fn reserve(blocks: u32, backing: Backing) -> Result<Self, MapError> {
        let len = blocks as usize;
        let set = || BlockSet::reserve(len, backing);
        Ok(Self {
            frames: Descriptors::reserve(len * PAGEBLOCK_FRAMES as usize, backing)?,
            blocks: Pageblocks::reserve(len, backing)?,
            available: [set()?, set()?, set()?],
            idle: set()?,
            released: set()?,
            in_use: set()?,
            skip: set()?,
            failed: Arc::new(FailedPages::reserve(
                len * PAGEBLOCK_FRAMES as usize,
                FRAME_SIZE,
                backing,
            )?),
            len: blocks,
        })
    }

    /// Returns the committed bytes of all tables when `resident` of the first `online` pageblocks
    /// have descriptors.
    pub(crate) fn committed_bytes(online: u32, resident: u32) -> u64 {
        let descriptors =
            u64::from(resident) * u64::from(PAGEBLOCK_FRAMES) * DESCRIPTOR_SIZE as u64;
        let sets = MigrateType::ALL.len() as u64 + 4;
        descriptors + Pageblocks::committed_bytes(online) + sets * BlockSet::committed_bytes(online)
    }
}
