//! Isolated pageblocks, ranges of frames taken out of free blocks, and the CMA region.

use super::Buddy;
use super::ledger::CaptureRoom;
use super::pageblock::{CommitState, Occupancy, PageblockState};
use super::tables::Tables;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::page::{Kind, State};
use crate::units::{BlockIndex, MigrateType, Order, Pfn};

/// The reason why a pageblock cannot be isolated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IsolateError {
    /// Another thread has isolated it.
    Isolated,
    /// It is being decommitted.
    Releasing,
    /// It is not committed, and the memory limit allows no more.
    Limit,
}

impl Buddy {
    /// Returns whether two wholly free pageblocks may form one block: neither is isolated, and the
    /// border of the CMA region is not between them.
    pub(crate) fn can_merge(&self, tables: &Tables, one: BlockIndex, other: BlockIndex) -> bool {
        let isolated = |block| tables.blocks.state(block).isolated;
        !isolated(one)
            && !isolated(other)
            && self.region.contains(&one.0) == self.region.contains(&other.0)
    }

    /// Returns the first of the lowest two wholly free pageblocks that form a block of the largest
    /// order.
    pub(crate) fn lowest_pair(&self, tables: &Tables) -> Option<BlockIndex> {
        if let Some(pair) = tables.idle.lowest_pair_with(&tables.released, &self.region) {
            return Some(pair);
        }
        // Pageblocks above the high-water mark are in no set. The first half may be just below it.
        let free = |block: BlockIndex| {
            let free = tables.idle.contains(block)
                || tables.released.contains(block)
                || block.0 >= self.online;
            free && !self.region.contains(&block.0)
        };
        let across = BlockIndex(self.online & !1);
        let pairs =
            [across, BlockIndex(across.0 + 2)].into_iter().filter(|pair| pair.0 + 1 < tables.len);
        pairs.into_iter().find(|&pair| free(pair) && free(BlockIndex(pair.0 + 1)))
    }

    /// Returns whether a pageblock outside of the CMA region is free and not committed.
    pub(crate) fn has_uncommitted_block(&self, tables: &Tables) -> bool {
        self.online < tables.len || tables.released.lowest_outside(&self.region).is_some()
    }

    /// Commits a pageblock of the CMA region. Returns `None` when all of them are committed, or the
    /// memory limit allows no more.
    pub(super) fn commit_cma(&mut self, tables: &Tables) -> Option<BlockIndex> {
        let region = self.region.clone();
        let inside = |block: &BlockIndex| region.contains(&block.0);
        if region.is_empty() || !self.may_commit(region.end, 1) {
            return None;
        }
        let block = tables.released.lowest_from(region.start).filter(inside)?;
        self.commit(tables, block, MigrateType::Cma);
        Some(block)
    }

    /// Moves the high-water mark up to `end` pageblocks. The pageblocks it passes become released:
    /// free, without memory. The CMA region is below the mark from the start.
    pub(crate) fn bring_online(&mut self, tables: &Tables, end: u32) {
        for block in (self.online..end).map(BlockIndex) {
            let block_state = tables.blocks.state(block);
            tables.blocks.set_state(
                block,
                PageblockState { commit_state: CommitState::Released, ..block_state },
            );
            tables.released.insert(block);
        }
        self.online = self.online.max(end);
        self.update_table_bytes();
    }

    /// Commits a pageblock below the high-water mark that is not committed.
    ///
    /// # Errors
    /// [`IsolateError::Releasing`] and [`IsolateError::Limit`]; nothing has changed then.
    pub(crate) fn ensure_committed(
        &mut self,
        tables: &Tables,
        block: BlockIndex,
    ) -> Result<(), IsolateError> {
        let block_state = tables.blocks.state(block);
        if block_state.commit_state == CommitState::Released && !self.may_commit(self.online, 1) {
            return Err(IsolateError::Limit);
        }
        match block_state.commit_state {
            CommitState::Releasing => return Err(IsolateError::Releasing),
            CommitState::Released if block_state.migrate_type == MigrateType::Cma => {
                self.commit(tables, block, MigrateType::Cma);
            }
            CommitState::Released => self.commit(tables, block, MigrateType::Movable),
            CommitState::Offline | CommitState::Committed => {}
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
            return Err(IsolateError::Isolated);
        }
        self.ensure_committed(tables, block)?;
        let block_state = tables.blocks.state(block);
        if block_state.free > 0 {
            tables.available[block_state.migrate_type.index()].remove(block);
        }
        if block_state.free == PAGEBLOCK_FRAMES {
            tables.idle.remove(block);
            self.idle -= 1;
            self.split_pair(tables, block);
        }
        self.move_free_blocks(tables, block, PageblockState { isolated: true, ..block_state });
        Ok(())
    }

    /// Ends the isolation of a pageblock, whose migrate type is what it was.
    pub(crate) fn end_isolation(&mut self, tables: &Tables, block: BlockIndex) {
        let block_state = tables.blocks.state(block);
        self.move_free_blocks(tables, block, PageblockState { isolated: false, ..block_state });
        if block_state.free > 0 {
            tables.available[block_state.migrate_type.index()].insert(block);
        }
        if block_state.free == PAGEBLOCK_FRAMES {
            tables.idle.insert(block);
            self.idle += 1;
            // A wholly free pageblock may be half of a larger block again.
            self.unlink(tables, block.first());
            self.link(tables, block.first(), Order::PAGEBLOCK);
        }
    }

    /// Splits the block of the largest order that a wholly free pageblock is half of, if there is
    /// one.
    fn split_pair(&mut self, tables: &Tables, block: BlockIndex) {
        let head = block.first().min(block.first().buddy(Order::PAGEBLOCK));
        if tables.frames.state(head) == State::free(Order::MAX) {
            self.unlink(tables, head);
            let middle = head.plus(PAGEBLOCK_FRAMES);
            self.link_rest(tables, head, middle);
            self.link_rest(tables, middle, middle.plus(PAGEBLOCK_FRAMES));
        }
    }

    /// Moves the free blocks of a pageblock to the lists of its new state. None of them reaches
    /// into another pageblock.
    fn move_free_blocks(&mut self, tables: &Tables, block: BlockIndex, to: PageblockState) {
        let from = tables.blocks.state(block).list_kind();
        let end = block.first().plus(PAGEBLOCK_FRAMES);
        let mut pfn = block.first();
        while pfn < end {
            let state = tables.frames.state(pfn);
            if let (Some(Kind::Free), Some(order)) = (state.kind(), state.order()) {
                self.lists.unlink(&tables.frames, pfn, order, from, State::INSIDE);
                self.lists.link(&tables.frames, pfn, order, to.list_kind());
            }
            pfn = pfn.plus(state.order().map_or(1, Order::frames));
        }
        tables.blocks.set_state(block, to);
    }

    /// Takes every free frame of `first..end`, which lies in one pageblock, as far as the memory
    /// limit allows. Each is then in use as a single frame with one reference, and uses up the
    /// capture's room.
    pub(crate) fn take_range(
        &mut self,
        tables: &Tables,
        first: Pfn,
        end: Pfn,
        room: &mut CaptureRoom,
        mut taken: impl FnMut(Pfn),
    ) {
        let mut next = first;
        while let Some(found) = tables.blocks.next_free(next, end) {
            // Takes the part of the block that is in the range, and puts the rest back.
            let (head, order) = free_block_of(tables, found);
            let whole_end = head.plus(order.frames());
            let (from, to) = (head.max(first), whole_end.min(end));
            if !self.is_within_limit(tables, from, to.0 - from.0) {
                return;
            }
            self.unlink(tables, head);
            self.account(tables, from, to.0 - from.0, Occupancy::Taken);
            self.note_touched(tables, from, to.0 - from.0);
            for pfn in (from.0..to.0).map(Pfn) {
                tables.frames.change(pfn, State::INSIDE, State::used(Order::SINGLE));
                taken(pfn);
            }
            self.ledger.charge_frames(u64::from(to.0 - from.0));
            self.ledger.captured(room, u64::from(to.0 - from.0));
            self.link_rest(tables, head, from);
            self.link_rest(tables, to, whole_end);
            next = to;
        }
    }
}

/// Returns the free block that contains a free frame.
pub(super) fn free_block_of(tables: &Tables, pfn: Pfn) -> (Pfn, Order) {
    let heads = Order::SINGLE.and_larger().map(|order| (Pfn(pfn.0 & !(order.frames() - 1)), order));
    let found =
        heads.into_iter().find(|&(head, order)| tables.frames.state(head) == State::free(order));
    found.unwrap_or_else(|| panic!("{pfn} is marked as free but is in no free block"))
}
