//! Which frames and pageblocks a request can get below the memory limit.

use super::Buddy;
use super::ledger::ChargePurpose;
use super::pageblock::pageblock_parts;
use super::tables::Tables;
use crate::error::AllocError;
use crate::geometry::{FRAME_SIZE, PAGEBLOCK_FRAMES};
use crate::units::{BlockIndex, MigrateType, Pfn};

impl Buddy {
    /// Returns how many frames may still be taken below the limits. A poisoned zone has none.
    pub(crate) fn headroom(&self) -> u64 {
        if self.is_poisoned() { 0 } else { self.ledger.headroom() }
    }

    /// Reserves room below the limits. Returns whether there was enough.
    pub(crate) fn reserve(&mut self, frames: u64) -> bool {
        !self.is_poisoned() && self.ledger.reserve(frames)
    }

    /// Charges the metadata of an owner.
    ///
    /// # Errors
    /// [`AllocError::Limit`] or [`AllocError::Poisoned`]; nothing has changed then.
    pub(crate) fn charge(&mut self, bytes: u64, purpose: ChargePurpose) -> Result<(), AllocError> {
        if self.is_poisoned() {
            return Err(AllocError::Poisoned);
        }
        self.ledger.charge(bytes, purpose)
    }

    /// Returns how many of `count` frames from `first` on, in one pageblock, can be taken below the
    /// memory limit.
    pub(super) fn count_within_limit(&self, tables: &Tables, first: Pfn, count: u32) -> u32 {
        let more = self.ledger.touchable();
        if more >= u64::from(PAGEBLOCK_FRAMES) {
            return count;
        }
        // Below a pageblock, so it fits.
        let more = more as u32 / self.ledger.granule * self.ledger.granule;
        let end = tables.blocks.state(first.block()).touched + more;
        end.saturating_sub(first.offset_in_block()).min(count)
    }

    /// Returns whether all frames of a range can be taken below the memory limit.
    pub(super) fn is_within_limit(&self, tables: &Tables, first: Pfn, count: u32) -> bool {
        let more: u64 = pageblock_parts(first, count)
            .map(|(pfn, here)| u64::from(self.newly_touched(tables, pfn, here)))
            .sum();
        more <= self.ledger.touchable()
    }

    /// Counts allocated frames as touched.
    pub(super) fn note_touched(&mut self, tables: &Tables, first: Pfn, count: u32) {
        for (pfn, here) in pageblock_parts(first, count) {
            let more = self.newly_touched(tables, pfn, here);
            if more > 0 {
                tables.blocks.update(pfn.block(), |block_state| block_state.touched += more);
                self.ledger.touch(u64::from(more));
            }
        }
    }

    /// Returns how many frames would become touched if these frames of one pageblock were taken.
    fn newly_touched(&self, tables: &Tables, first: Pfn, count: u32) -> u32 {
        let end = (first.offset_in_block() + count)
            .next_multiple_of(self.ledger.granule)
            .min(PAGEBLOCK_FRAMES);
        end.saturating_sub(tables.blocks.state(first.block()).touched)
    }

    /// Returns whether `blocks` more pageblocks, below a high-water mark of `online`, can be
    /// committed and used.
    pub(super) fn may_commit(&self, online: u32, blocks: u32) -> bool {
        if self.ledger.memory_limit.is_none() {
            return true;
        }
        let resident = self.committed + self.releasing;
        let then = Tables::committed_bytes(online.max(self.online), resident + blocks);
        self.ledger.memory_headroom()
            >= then - self.ledger.table_bytes
                + u64::from(blocks * self.ledger.granule) * FRAME_SIZE as u64
    }

    /// Returns the lowest pageblock of a type with a free frame below the memory limit.
    pub(super) fn lowest_available(
        &self,
        tables: &Tables,
        migrate_type: MigrateType,
    ) -> Option<BlockIndex> {
        let blocks = &tables.available[migrate_type.index()];
        let has_room = |pfn: Pfn| self.count_within_limit(tables, pfn, 1) > 0;
        // Nearly all pageblocks are touched as a whole, so the first one nearly always has one.
        std::iter::successors(blocks.lowest_from(0), |block| blocks.lowest_from(block.0 + 1))
            .find(|&block| tables.blocks.first_free(block).is_some_and(has_room))
    }
}
