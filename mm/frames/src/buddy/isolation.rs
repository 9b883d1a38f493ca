//! Isolated pageblocks, pairs of pageblocks, and the CMA region.

use super::Buddy;
use super::freelist::FreeListKind;
use super::pageblock::CommitState;
use super::tables::Tables;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::page::State;
use crate::units::{BlockIndex, MigrateType, Order};

/// The reason why a pageblock cannot be isolated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IsolateError {
    /// Another thread has isolated it, or it is being decommitted.
    Busy,
    /// It is not committed, and the memory limit allows no more.
    Limit,
}

impl Buddy {
    /// Returns the first of the lowest two wholly free pageblocks that form a block of the largest
    /// order.
    pub(crate) fn lowest_pair(&self, tables: &Tables) -> Option<BlockIndex> {
        if let Some(pair) = tables.idle.lowest_pair_with(&tables.released, &tables.region) {
            return Some(pair);
        }
        // Pageblocks above the high-water mark are in no set. The first half may be just below it.
        let free = |block: BlockIndex| {
            let free = tables.idle.contains(block)
                || tables.released.contains(block)
                || block.0 >= self.online;
            free && !tables.region.contains(&block.0)
        };
        let across = self.online & !1;
        let mut pairs = [across, across + 2].into_iter().filter(|pair| pair + 1 < tables.len);
        pairs.find(|&pair| free(BlockIndex(pair)) && free(BlockIndex(pair + 1))).map(BlockIndex)
    }

    /// Returns whether a pageblock outside of the CMA region is free and not committed.
    pub(crate) fn has_uncommitted_block(&self, tables: &Tables) -> bool {
        self.online < tables.len || tables.released.lowest_outside(&tables.region).is_some()
    }

    /// Commits a pageblock of the CMA region, if one is left and the memory limit allows it.
    pub(super) fn commit_cma(&mut self, tables: &Tables) -> Option<BlockIndex> {
        let lowest = tables.released.lowest_from(tables.region.start);
        let block = lowest.filter(|block| tables.region.contains(&block.0))?;
        self.may_commit(tables.region.end, 1).then(|| {
            self.commit(tables, block, MigrateType::Cma);
            block
        })
    }

    /// Moves the high-water mark up to `end` pageblocks. The pageblocks it passes become released:
    /// free, without memory. The CMA region is below the mark from the start.
    pub(crate) fn bring_online(&mut self, tables: &Tables, end: u32) {
        for block in (self.online..end).map(BlockIndex) {
            tables.blocks.update(block, |state| state.commit_state = CommitState::Released);
            tables.released.insert(block);
        }
        self.online = self.online.max(end);
        self.update_table_bytes();
    }

    /// Commits a pageblock below the high-water mark that is not committed.
    ///
    /// # Errors
    /// [`IsolateError`]; nothing has changed then.
    pub(crate) fn ensure_committed(
        &mut self,
        tables: &Tables,
        block: BlockIndex,
    ) -> Result<(), IsolateError> {
        let block_state = tables.blocks.state(block);
        match block_state.commit_state {
            CommitState::Offline | CommitState::Committed => {}
            CommitState::Releasing => return Err(IsolateError::Busy),
            CommitState::Released if !self.may_commit(self.online, 1) => {
                return Err(IsolateError::Limit);
            }
            CommitState::Released if block_state.migrate_type == MigrateType::Cma => {
                self.commit(tables, block, MigrateType::Cma);
            }
            CommitState::Released => self.commit(tables, block, MigrateType::Movable),
        }
        Ok(())
    }

    /// Isolates a pageblock: no free frame in it is allocated, nor one that becomes free.
    ///
    /// # Errors
    /// [`IsolateError`]; nothing has changed then.
    pub(crate) fn isolate(
        &mut self,
        tables: &Tables,
        block: BlockIndex,
    ) -> Result<(), IsolateError> {
        if tables.blocks.state(block).isolated {
            return Err(IsolateError::Busy);
        }
        self.ensure_committed(tables, block)?;
        let block_state = tables.blocks.state(block);
        if block_state.free > 0 {
            tables.available[block_state.migrate_type.index()].remove(block);
        }
        if block_state.free == PAGEBLOCK_FRAMES {
            tables.idle.remove(block);
            self.split_pair(tables, block);
        }
        // From here on none of its free blocks reaches into another pageblock.
        self.relink(tables, block, block_state.list_kind(), FreeListKind::Isolated);
        tables.blocks.update(block, |state| state.isolated = true);
        Ok(())
    }

    /// Ends the isolation of a pageblock, whose migrate type is what it was.
    pub(crate) fn end_isolation(&mut self, tables: &Tables, block: BlockIndex) {
        let block_state = tables.blocks.state(block);
        let list_kind = FreeListKind::Type(block_state.migrate_type);
        self.relink(tables, block, FreeListKind::Isolated, list_kind);
        tables.blocks.update(block, |state| state.isolated = false);
        if block_state.free > 0 {
            tables.available[block_state.migrate_type.index()].insert(block);
        }
        if block_state.free == PAGEBLOCK_FRAMES {
            tables.idle.insert(block);
            // A wholly free pageblock may be half of a larger block again.
            self.unlink(tables, block.first());
            self.link(tables, block.first(), Order::PAGEBLOCK);
        }
    }

    /// Splits the block of the largest order that a wholly free pageblock is half of, if any.
    pub(super) fn split_pair(&mut self, tables: &Tables, block: BlockIndex) {
        let head = block.first().min(block.first().buddy(Order::PAGEBLOCK));
        if tables.frames.state(head) == State::free(Order::MAX) {
            self.unlink(tables, head);
            let middle = head.plus(PAGEBLOCK_FRAMES);
            self.link_rest(tables, head, middle);
            self.link_rest(tables, middle, middle.plus(PAGEBLOCK_FRAMES));
        }
    }
}
