//! The metadata tables of a zone: one entry for each frame or pageblock.

use std::ops::Range;
use std::sync::Arc;

use sys::memory_failure::FailedPages;
use sys::{Backing, MapError};

use super::bitmap::BlockSet;
use super::pageblock::{Occupancy, Pageblocks, pageblock_parts};
use crate::geometry::{FRAME_SIZE, PAGEBLOCK_FRAMES};
use crate::page::{DESCRIPTOR_SIZE, Descriptors, Kind, State};
use crate::units::{BlockIndex, MigrateType, Order, Pfn};

/// All tables of a zone. Their addresses are reserved at once; memory is committed on first touch.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) frames: Descriptors,
    pub(crate) blocks: Pageblocks,
    /// Committed pageblocks of each type with a free frame.
    pub(crate) available: [BlockSet; MigrateType::ALL.len()],
    /// Committed pageblocks all of whose frames are free.
    pub(crate) idle: BlockSet,
    /// Free pageblocks without memory.
    pub(crate) released: BlockSet,
    /// Committed pageblocks with a frame that is not free.
    pub(crate) in_use: BlockSet,
    /// Pageblocks in which compaction found nothing to move: a hint.
    pub(crate) skip: BlockSet,
    /// Frames whose memory has failed. Not counted: committed only where a frame fails.
    pub(crate) failed: Arc<FailedPages>,
    /// The number of pageblocks in the arena.
    pub(crate) len: u32,
    /// The pageblocks of the CMA region. Empty when there is none.
    pub(crate) region: Range<u32>,
}

impl Tables {
    /// Reserves the tables of `len` pageblocks that are all offline.
    ///
    /// # Errors
    /// [`MapError`] when the OS refuses the addresses.
    pub(crate) fn reserve(
        len: u32,
        region: Range<u32>,
        backing: Backing,
    ) -> Result<Self, MapError> {
        let frames = len as usize * PAGEBLOCK_FRAMES as usize;
        let set = || BlockSet::reserve(len as usize, backing);
        let blocks = Pageblocks::reserve(len as usize, backing)?;
        for block in region.clone().map(BlockIndex) {
            blocks.update(block, |block_state| block_state.migrate_type = MigrateType::Cma);
        }
        Ok(Self {
            frames: Descriptors::reserve(frames, backing)?,
            blocks,
            available: [set()?, set()?, set()?],
            idle: set()?,
            released: set()?,
            in_use: set()?,
            skip: set()?,
            failed: Arc::new(FailedPages::reserve(frames, FRAME_SIZE, backing)?),
            len,
            region,
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

    /// Returns the order of the free block that starts at `pfn`.
    ///
    /// # Panics
    /// When none does.
    pub(super) fn order_of_free(&self, pfn: Pfn) -> Order {
        let state = self.frames.state(pfn);
        match (state.kind(), state.order()) {
            (Some(Kind::Free), Some(order)) => order,
            _ => panic!("{pfn} must be the first frame of a free block but is {state:?}"),
        }
    }

    /// Returns the free block that contains a free frame.
    ///
    /// # Panics
    /// When none does.
    pub(super) fn free_block_of(&self, pfn: Pfn) -> (Pfn, Order) {
        let head = |order: Order| (Pfn(pfn.0 & !(order.frames() - 1)), order);
        let is_free = |&(head, order): &(Pfn, Order)| self.frames.state(head) == State::free(order);
        let found = Order::SINGLE.and_larger().map(head).find(is_free);
        found.unwrap_or_else(|| panic!("{pfn} is marked as free but is in no free block"))
    }

    /// Returns whether two wholly free pageblocks may form one block: neither is isolated, and the
    /// border of the CMA region is not between them.
    pub(crate) fn can_merge(&self, one: BlockIndex, other: BlockIndex) -> bool {
        let isolated = |block| self.blocks.state(block).isolated;
        !isolated(one)
            && !isolated(other)
            && self.region.contains(&one.0) == self.region.contains(&other.0)
    }

    /// Marks adjacent frames as free or taken in the map, the counts and the sets of pageblocks.
    pub(super) fn account(&self, first: Pfn, frames: u32, to: Occupancy) {
        for (pfn, here) in pageblock_parts(first, frames) {
            self.blocks.flip(pfn, here, to);
            self.count_free(pfn.block(), here, to);
        }
    }

    fn count_free(&self, block: BlockIndex, count: u32, to: Occupancy) {
        let was = self.blocks.state(block);
        let free = if to == Occupancy::Free { was.free + count } else { was.free - count };
        self.blocks.update(block, |block_state| block_state.free = free);
        let (available, listed) = (&self.available[was.migrate_type.index()], !was.isolated);
        // The pageblock enters or leaves the sets.
        match was.free {
            0 if listed => available.insert(block),
            PAGEBLOCK_FRAMES => self.in_use.insert(block),
            _ => {}
        }
        match free {
            0 if listed => available.remove(block),
            PAGEBLOCK_FRAMES => self.in_use.remove(block),
            _ => {}
        }
        if listed && was.free == PAGEBLOCK_FRAMES {
            self.idle.remove(block);
        } else if listed && free == PAGEBLOCK_FRAMES {
            self.idle.insert(block);
        }
    }
}
