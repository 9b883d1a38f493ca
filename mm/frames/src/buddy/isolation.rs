//! What is kept out of the ordinary way of allocation: pageblocks somebody claims, ranges of frames, and pageblocks set aside for such claims.

use super::Buddy;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::pageblock::{CommitState, Occupancy, PageblockState};
use crate::state::{Kind, State};
use crate::tables::Tables;
use crate::units::{BlockIndex, MigrateType, Order, Pfn};

/// What stands in the way of isolating a pageblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IsolateError {
    /// Somebody else has isolated it.
    Isolated,
    /// Its memory is on the way to the OS.
    Releasing,
    /// It has no memory, and the limit allows none.
    Limit,
}

impl Buddy {
    /// Whether two wholly free pageblocks may form one block: not across the border of what is set aside or isolated.
    pub(crate) fn can_merge(&self, tables: &Tables, one: BlockIndex, other: BlockIndex) -> bool {
        let isolated = |block| tables.blocks.state(block).isolated;
        !isolated(one)
            && !isolated(other)
            && self.region.contains(&one.0) == self.region.contains(&other.0)
    }

    /// Two wholly free pageblocks that form a block of the largest order: the first one of the lowest such pair.
    pub(crate) fn lowest_pair(&self, tables: &Tables) -> Option<BlockIndex> {
        if let Some(pair) = tables.idle.lowest_pair_with(&tables.released, &self.region) {
            return Some(pair);
        }
        // What was never used is in no set. The first half may be just below the mark.
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

    /// Whether a pageblock that is not set aside is free and has no memory.
    pub(crate) fn has_uncommitted_block(&self, tables: &Tables) -> bool {
        self.online < tables.len || tables.released.lowest_outside(&self.region).is_some()
    }

    /// Starts to use a pageblock that is set aside; `None` when all of them are in use already.
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

    /// Moves the high-water mark up to `end` pageblocks. Those below it are free and hold no memory yet. What is set aside is below it from the start.
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
    }

    /// Makes sure that a pageblock below the high-water mark has frames: if its memory went back to the OS, or it never had any, it is committed.
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

    /// Takes a pageblock out of allocation: what is free in it, and what becomes free in it, is handed out to nobody.
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

    /// Gives a pageblock back to allocation, as what it was.
    pub(crate) fn end_isolation(&mut self, tables: &Tables, block: BlockIndex) {
        let block_state = tables.blocks.state(block);
        self.move_free_blocks(tables, block, PageblockState { isolated: false, ..block_state });
        if block_state.free > 0 {
            tables.available[block_state.migrate_type.index()].insert(block);
        }
        if block_state.free == PAGEBLOCK_FRAMES {
            tables.idle.insert(block);
            self.idle += 1;
            // Wholly free, it may be half of a larger block again.
            self.unlink(tables, block.first());
            self.link(tables, block.first(), Order::PAGEBLOCK);
        }
    }

    /// Splits the block of the largest order a wholly free pageblock is half of, if it is.
    fn split_pair(&mut self, tables: &Tables, block: BlockIndex) {
        let head = block.first().min(block.first().buddy(Order::PAGEBLOCK));
        if tables.frames.state(head) == State::free(Order::MAX) {
            self.unlink(tables, head);
            let middle = head.plus(PAGEBLOCK_FRAMES);
            self.link_rest(tables, head, middle);
            self.link_rest(tables, middle, middle.plus(PAGEBLOCK_FRAMES));
        }
    }

    /// Moves the free blocks of a pageblock to the lists its new state calls for. None of them reaches into another pageblock.
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

    /// Takes every free frame of `first..end`, which lies in one pageblock, as far as the memory limit allows. Each is in use as a single frame afterwards,
    /// with one reference, and counts against what was reserved.
    pub(crate) fn take_range(
        &mut self,
        tables: &Tables,
        first: Pfn,
        end: Pfn,
        mut taken: impl FnMut(Pfn),
    ) {
        let mut next = first;
        while let Some(found) = tables.blocks.next_free(next, end) {
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
            self.charged += u64::from(to.0 - from.0);
            self.reserved -= u64::from(to.0 - from.0);
            self.link_rest(tables, head, from);
            self.link_rest(tables, to, whole_end);
            next = to;
        }
    }
}

impl Buddy {
    /// Retires a free frame: it leaves its list, and what is left of its block goes back.
    pub(crate) fn take_off_buddy(&mut self, tables: &Tables, pfn: Pfn) {
        let (head, order) = free_block_of(tables, pfn);
        self.unlink(tables, head);
        self.account(tables, pfn, 1, Occupancy::Taken);
        self.charged += 1;
        self.retire_frame(tables, pfn);
        self.link_rest(tables, head, pfn);
        self.link_rest(tables, pfn.plus(1), head.plus(order.frames()));
    }
}

/// The free block a free frame is in.
fn free_block_of(tables: &Tables, pfn: Pfn) -> (Pfn, Order) {
    let heads = Order::SINGLE.and_larger().map(|order| (Pfn(pfn.0 & !(order.frames() - 1)), order));
    let found =
        heads.into_iter().find(|&(head, order)| tables.frames.state(head) == State::free(order));
    found.unwrap_or_else(|| panic!("{pfn} is free but in no free block"))
}
