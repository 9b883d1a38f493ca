//! The buddy allocator: blocks of `1 << order` frames that split in halves and merge with their
//! other half again.
//!
//! Free blocks are on a list for each migrate type and order. The lists serve requests for blocks.
//! Nearly all requests are for single frames, and these are found by address instead: in the free
//! map of the lowest pageblock that has a free frame, lowest frame first. So frames in use gather
//! at the low end, high pageblocks empty and are decommitted, and consecutive requests get adjacent
//! frames.
//!
//! Frames come from the first of these that has any:
//! 1. a pageblock of the requested type;
//! 2. a wholly free pageblock;
//! 3. a pageblock that was decommitted;
//! 4. a pageblock that was never used;
//! 5. a pageblock of another type, which changes its type if at least half of it is free.
//!
//! A zone may have a CMA region. Its pageblocks keep the type CMA, serve single movable
//! frames only, and only when no other frame is left.

mod bitmap;
mod freelist;
mod pageblock;
mod tables;
mod ledger;
mod limit;
mod isolation;
mod take;
mod failed;

use freelist::FreeLists;
pub(crate) use freelist::{FREE_LIST_KINDS, FreeListKind};
pub(crate) use isolation::IsolateError;
pub use ledger::ChargePurpose;
pub(crate) use ledger::{CaptureRoom, InFlight, LimitLedger};
use pageblock::Occupancy;
pub(crate) use pageblock::{CommitState, PageblockState, ROWS, WITHOUT_MEMORY, pageblock_parts};
pub(crate) use tables::Tables;

use crate::geometry::PAGEBLOCK_FRAMES;
use crate::page::{Kind, State};
use crate::units::{BlockIndex, MigrateType, Order, Pfn};

/// What the zone lock guards, together with [`Tables`].
#[derive(Debug, Default)]
pub(crate) struct Buddy {
    pub(crate) lists: FreeLists,
    pub(crate) ledger: LimitLedger,
    /// Pageblocks below the high-water mark.
    pub(crate) online: u32,
    pub(crate) committed: u32,
    pub(crate) releasing: u32,
    pub(crate) released_total: u64,
    /// Whether a panic unwound out of a change of this state: see the zone lock.
    poisoned: bool,
    /// Frames freed since the zone was poisoned. They are on no list.
    pub(crate) lost: u64,
    /// Charged frames that will never be used again.
    pub(crate) retired: u64,
}

impl Buddy {
    /// Returns an allocator of pageblocks that are all offline.
    pub(crate) fn new(ledger: LimitLedger) -> Self {
        Self { ledger, ..Self::default() }
    }

    /// Notes that the state may be half changed. Nothing is allocated from it after this.
    pub(crate) fn poison(&mut self) {
        self.poisoned = true;
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Frees a block: puts it on its buddy list, merged with its free buddies. `was` is the state
    /// of its first frame.
    ///
    /// A poisoned zone leaves the block as it is: taken, without an owner, and counted as lost.
    pub(crate) fn free(&mut self, tables: &Tables, pfn: Pfn, order: Order, was: State) {
        if self.poisoned {
            self.lost += u64::from(order.frames());
            return;
        }
        if tables.failed.reports() != 0 && self.free_around_failed(tables, pfn, order, was) {
            return;
        }
        tables.frames.change(pfn, was, State::INSIDE);
        self.free_inside(tables, pfn, order);
    }

    /// Frees a block as [`Buddy::free`] does. Its first frame is already "inside".
    pub(crate) fn free_inside(&mut self, tables: &Tables, pfn: Pfn, order: Order) {
        self.ledger.uncharge_frames(u64::from(order.frames()));
        tables.account(pfn, order.frames(), Occupancy::Free);
        let middle = pfn.plus(PAGEBLOCK_FRAMES);
        if order > Order::PAGEBLOCK && !tables.can_merge(pfn.block(), middle.block()) {
            // A pageblock of it was isolated while it was in use: each half goes on its own list.
            self.link_rest(tables, pfn, middle);
            self.link_rest(tables, middle, middle.plus(PAGEBLOCK_FRAMES));
        } else {
            self.link(tables, pfn, order);
        }
    }

    /// Merges a block whose frames are accounted for, and puts it on its list.
    fn link(&mut self, tables: &Tables, mut pfn: Pfn, mut order: Order) {
        while let Some(next) = order.next() {
            let buddy = pfn.buddy(order);
            if buddy.block().0 >= tables.len || tables.frames.state(buddy) != State::free(order) {
                break;
            }
            if order >= Order::PAGEBLOCK && !tables.can_merge(pfn.block(), buddy.block()) {
                break;
            }
            let list_kind = tables.blocks.state(buddy.block()).list_kind();
            self.lists.unlink(&tables.frames, buddy, order, list_kind);
            if order >= Order::PAGEBLOCK {
                // Both halves are wholly free, so either type fits. A block has only one type.
                self.set_type(tables, buddy.block(), tables.blocks.state(pfn.block()).migrate_type);
            }
            (pfn, order) = (pfn.min(buddy), next);
        }
        let list_kind = tables.blocks.state(pfn.block()).list_kind();
        self.lists.link(&tables.frames, pfn, order, list_kind);
    }

    /// Puts `first..end`, whose frames are accounted for and "inside", on the lists as the largest
    /// blocks that fit. None of them can merge.
    fn link_rest(&mut self, tables: &Tables, mut first: Pfn, end: Pfn) {
        while first < end {
            let order = Order::fitting(first, end);
            let list_kind = tables.blocks.state(first.block()).list_kind();
            self.lists.link(&tables.frames, first, order, list_kind);
            first = first.plus(order.frames());
        }
    }

    /// Starts to use the memory of a released pageblock, which counts as held from now on.
    fn commit(&mut self, tables: &Tables, block: BlockIndex, migrate_type: MigrateType) {
        tables.released.remove(block);
        tables.skip.remove(block);
        tables.blocks.update(block, |state| {
            (state.commit_state, state.migrate_type) = (CommitState::Committed, migrate_type);
        });
        self.committed += 1;
        self.update_table_bytes();
        // A pageblock with failed memory was decommitted since, so its frames get other memory.
        tables.failed.forget(block.first().index()..block.first().plus(PAGEBLOCK_FRAMES).index());
        tables.account(block.first(), PAGEBLOCK_FRAMES, Occupancy::Free);
        self.link(tables, block.first(), Order::PAGEBLOCK);
    }

    /// Takes an idle pageblock off its list, so that it can be decommitted without the zone lock.
    pub(crate) fn begin_release(&mut self, tables: &Tables, block: BlockIndex) {
        self.split_pair(tables, block);
        self.unlink(tables, block.first());
        tables.account(block.first(), PAGEBLOCK_FRAMES, Occupancy::Taken);
        tables.blocks.update(block, |state| state.commit_state = CommitState::Releasing);
        // `account` counted it as in use.
        tables.in_use.remove(block);
        self.committed -= 1;
        self.releasing += 1;
    }

    /// Ends the release of a pageblock: it is free again and has no memory.
    pub(crate) fn finish_release(&mut self, tables: &Tables, block: BlockIndex) {
        self.ledger.untouch(u64::from(tables.blocks.state(block).touched));
        tables.blocks.update(block, |state| {
            (state.commit_state, state.touched) = (CommitState::Released, 0);
        });
        tables.released.insert(block);
        self.releasing -= 1;
        self.released_total += 1;
        self.update_table_bytes();
    }

    /// Tells the ledger the size of the tables.
    fn update_table_bytes(&mut self) {
        let resident = self.committed + self.releasing;
        self.ledger.set_table_bytes(Tables::committed_bytes(self.online, resident));
    }

    /// Changes the type of a pageblock and moves its free blocks to the lists of that type.
    fn retype(&mut self, tables: &Tables, block: BlockIndex, to: MigrateType) {
        let from = tables.blocks.state(block).migrate_type;
        if from == to {
            return;
        }
        let last = self.relink(tables, block, FreeListKind::Type(from), FreeListKind::Type(to));
        self.set_type(tables, block, to);
        if last != block {
            self.set_type(tables, last, to);
        }
    }

    /// Moves the free blocks that start in a pageblock to other lists. Returns the last pageblock
    /// that they reach into.
    fn relink(
        &mut self,
        tables: &Tables,
        block: BlockIndex,
        from: FreeListKind,
        to: FreeListKind,
    ) -> BlockIndex {
        let (mut pfn, mut last) = (block.first(), block);
        let end = pfn.plus(PAGEBLOCK_FRAMES);
        while pfn < end {
            let state = tables.frames.state(pfn);
            let next = pfn.plus(state.order().map_or(1, Order::frames));
            if let (Some(Kind::Free), Some(order)) = (state.kind(), state.order()) {
                self.lists.unlink(&tables.frames, pfn, order, from);
                self.lists.link(&tables.frames, pfn, order, to);
                last = Pfn(next.0 - 1).block();
            }
            pfn = next;
        }
        last
    }

    /// Sets the type of a pageblock, but not the lists of its free blocks.
    pub(crate) fn set_type(&mut self, tables: &Tables, block: BlockIndex, to: MigrateType) {
        let block_state = tables.blocks.state(block);
        if block_state.migrate_type != to && block_state.free > 0 && !block_state.isolated {
            tables.available[block_state.migrate_type.index()].remove(block);
            tables.available[to.index()].insert(block);
        }
        tables.blocks.update(block, |state| state.migrate_type = to);
    }

    /// Takes the free block that starts at `pfn` off its list. Its first frame is then "inside".
    fn unlink(&mut self, tables: &Tables, pfn: Pfn) -> Order {
        let order = tables.order_of_free(pfn);
        let list_kind = tables.blocks.state(pfn.block()).list_kind();
        self.lists.unlink(&tables.frames, pfn, order, list_kind);
        order
    }
}
