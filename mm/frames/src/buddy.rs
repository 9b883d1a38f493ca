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
mod failed;

use std::ops::Range;

use freelist::FreeLists;
pub(crate) use freelist::{FREE_LIST_KINDS, FreeListKind};
pub(crate) use isolation::IsolateError;
pub use ledger::ChargePurpose;
pub(crate) use ledger::{CaptureRoom, InFlight, LimitLedger};
use pageblock::Occupancy;
pub(crate) use pageblock::{CommitState, PageblockState, ROWS, WITHOUT_MEMORY};
pub(crate) use tables::Tables;

use crate::geometry::PAGEBLOCK_FRAMES;
use crate::page::{Descriptors, Kind, State};
use crate::units::{BlockIndex, MigrateType, Order, Pfn};

/// What the zone lock guards, together with [`Tables`].
#[derive(Debug)]
pub(crate) struct Buddy {
    pub(crate) lists: FreeLists,
    pub(crate) ledger: LimitLedger,
    /// Pageblocks of the CMA region. Empty when there is none.
    pub(crate) region: Range<u32>,
    /// Pageblocks below the high-water mark.
    pub(crate) online: u32,
    pub(crate) committed: u32,
    pub(crate) idle: u32,
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
    pub(crate) fn new(ledger: LimitLedger, region: Range<u32>) -> Self {
        Self {
            lists: FreeLists::new(),
            ledger,
            region,
            online: 0,
            committed: 0,
            idle: 0,
            releasing: 0,
            released_total: 0,
            poisoned: false,
            lost: 0,
            retired: 0,
        }
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
        self.account(tables, pfn, order.frames(), Occupancy::Free);
        let middle = pfn.plus(PAGEBLOCK_FRAMES);
        if order > Order::PAGEBLOCK && !self.can_merge(tables, pfn.block(), middle.block()) {
            // A pageblock of the block was isolated while it was in use: each half goes on its own
            // list.
            self.link_rest(tables, pfn, middle);
            self.link_rest(tables, middle, middle.plus(PAGEBLOCK_FRAMES));
        } else {
            self.link(tables, pfn, order);
        }
    }

    /// Merges a block whose frames are accounted for, and puts it on its list.
    fn link(&mut self, tables: &Tables, mut pfn: Pfn, mut order: Order) {
        // Merge with the buddy as long as it is a free block of the same order.
        while let Some(next) = order.next() {
            let buddy = pfn.buddy(order);
            if buddy.block().0 >= tables.len || tables.frames.state(buddy) != State::free(order) {
                break;
            }
            let block_state = tables.blocks.state(buddy.block());
            if order >= Order::PAGEBLOCK && !self.can_merge(tables, pfn.block(), buddy.block()) {
                break;
            }
            self.lists.unlink(&tables.frames, buddy, order, block_state.list_kind(), State::INSIDE);
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

    /// Takes up to `into.len()` single frames out of one pageblock, ascending, each now "cached".
    /// Returns how many.
    pub(crate) fn take_frames(
        &mut self,
        tables: &Tables,
        migrate_type: MigrateType,
        into: &mut [Pfn],
    ) -> usize {
        let Some(block) = self.find_pageblock(tables, migrate_type) else { return 0 };
        self.take_from(tables, block, into)
    }

    /// Takes up to `into.len()` single frames as migration targets, out of the lowest pageblock
    /// that may hold movable frames, if that pageblock is below `end`. They do not count against
    /// the limit. Returns how many.
    pub(crate) fn take_migration_targets(
        &mut self,
        tables: &Tables,
        end: BlockIndex,
        into: &mut [Pfn],
    ) -> InFlight {
        let lowest = |migrate_type: MigrateType| self.lowest_available(tables, migrate_type);
        let source = [MigrateType::Movable, MigrateType::Cma].into_iter().filter_map(lowest).min();
        let taken = match source.filter(|&block| block < end && !self.poisoned) {
            Some(block) => self.take_from(tables, block, into),
            None => 0,
        };
        self.ledger.begin_flight(taken as u64)
    }

    /// Takes up to `into.len()` single frames out of one committed pageblock: of the type, or else
    /// of a fallback type. Returns how many.
    pub(crate) fn take_committed(
        &mut self,
        tables: &Tables,
        migrate_type: MigrateType,
        into: &mut [Pfn],
    ) -> usize {
        let lowest = |of: MigrateType| self.lowest_available(tables, of);
        if let Some(block) = lowest(migrate_type) {
            return self.take_from(tables, block, into);
        }
        let Some(block) = migrate_type.fallbacks().iter().find_map(|&other| lowest(other)) else {
            return 0;
        };
        self.steal(tables, block, migrate_type);
        self.take_from(tables, block, into)
    }

    fn take_from(&mut self, tables: &Tables, block: BlockIndex, into: &mut [Pfn]) -> usize {
        // Takes the lowest free block, or its first frames, until enough are taken or the limit is
        // reached.
        let mut taken = 0;
        while taken < into.len() {
            let Some(head) = tables.blocks.first_free(block) else { break };
            let order = order_of_free(&tables.frames, head);
            // At most a pageblock: `into` is shorter than that.
            let count = self.count_within_limit(
                tables,
                head,
                order.frames().min((into.len() - taken) as u32),
            );
            if count == 0 {
                break;
            }
            self.unlink(tables, head);
            self.account(tables, head, count, Occupancy::Taken);
            self.note_touched(tables, head, count);
            for pfn in (0..count).map(|step| head.plus(step)) {
                tables.frames.change(pfn, State::INSIDE, State::CACHED);
                into[taken] = pfn;
                taken += 1;
            }
            self.link_rest(tables, head.plus(count), head.plus(order.frames()));
        }
        self.ledger.charge_frames(taken as u64);
        taken
    }

    /// Finds the pageblock that serves a request for single frames, and commits or retypes one if
    /// necessary.
    fn find_pageblock(&mut self, tables: &Tables, migrate_type: MigrateType) -> Option<BlockIndex> {
        if let Some(block) = self.lowest_available(tables, migrate_type) {
            return Some(block);
        }
        if let Some(pfn) = self.find_idle_pageblock(tables, migrate_type) {
            return Some(pfn.block());
        }
        let fallback = migrate_type.fallbacks().iter().find_map(|&other| {
            match self.lowest_available(tables, other) {
                None if other == MigrateType::Cma => self.commit_cma(tables),
                found => found,
            }
        });
        let block = fallback?;
        self.steal(tables, block, migrate_type);
        Some(block)
    }

    /// Takes a block of exactly this order. Its first frame is then in the state `to`.
    pub(crate) fn take_block(
        &mut self,
        tables: &Tables,
        migrate_type: MigrateType,
        order: Order,
        to: State,
    ) -> Option<Pfn> {
        let found = self.find_block(tables, migrate_type, order);
        let pfn = found.filter(|&pfn| self.is_within_limit(tables, pfn, order.frames()))?;
        let whole = self.unlink(tables, pfn);
        self.account(tables, pfn, order.frames(), Occupancy::Taken);
        self.note_touched(tables, pfn, order.frames());
        self.link_rest(tables, pfn.plus(order.frames()), pfn.plus(whole.frames()));
        tables.frames.change(pfn, State::INSIDE, to);
        self.ledger.charge_frames(u64::from(order.frames()));
        Some(pfn)
    }

    /// Finds a free block of at least this order, and commits or retypes pageblocks if necessary.
    /// Returns its first frame.
    fn find_block(
        &mut self,
        tables: &Tables,
        migrate_type: MigrateType,
        order: Order,
    ) -> Option<Pfn> {
        if order == Order::SINGLE {
            let block = self.find_pageblock(tables, migrate_type)?;
            return tables.blocks.first_free(block);
        }
        // First a list of the requested type, then wholly free pageblocks.
        let own = FreeListKind::Type(migrate_type);
        if let Some(pfn) = order.and_larger().find_map(|order| self.lists.first(own, order)) {
            return Some(pfn);
        }
        let idle = if order > Order::PAGEBLOCK {
            self.find_idle_pair(tables, migrate_type)
        } else {
            self.find_idle_pageblock(tables, migrate_type)
        };
        idle.or_else(|| {
            // Then the largest block of another type, as in the kernel: its rest serves most later
            // requests.
            let mut orders = order.and_larger().rev();
            // A block cannot be migrated out of the CMA region, so it never takes from there.
            let may = |other: &MigrateType| *other != MigrateType::Cma || self.region.is_empty();
            let others = || migrate_type.fallbacks().iter().copied().filter(may);
            let pfn = orders.find_map(|order| {
                others().find_map(|other| self.lists.first(FreeListKind::Type(other), order))
            })?;
            self.steal(tables, pfn.block(), migrate_type);
            Some(pfn)
        })
    }

    /// Finds the lowest wholly free pageblock, or commits one, and sets its type. Returns its first
    /// frame.
    fn find_idle_pageblock(&mut self, tables: &Tables, migrate_type: MigrateType) -> Option<Pfn> {
        if migrate_type == MigrateType::Cma && !self.region.is_empty() {
            return self.commit_cma(tables).map(BlockIndex::first);
        }
        let block = match tables.idle.lowest_outside(&self.region) {
            Some(block) => block,
            None => self.commit_lowest(tables, migrate_type)?,
        };
        self.retype(tables, block, migrate_type);
        Some(block.first())
    }

    /// Finds two wholly free pageblocks that form a block of the largest order, or commits them.
    /// Returns the first frame.
    fn find_idle_pair(&mut self, tables: &Tables, migrate_type: MigrateType) -> Option<Pfn> {
        let even = self.lowest_pair(tables).filter(|even| self.may_commit(even.0 + 2, 2))?;
        for block in [even, BlockIndex(even.0 + 1)] {
            self.bring_online(tables, block.0 + 1);
            if tables.released.contains(block) {
                self.commit(tables, block, migrate_type);
            }
        }
        self.retype(tables, even, migrate_type);
        Some(even.first())
    }

    fn commit_lowest(&mut self, tables: &Tables, migrate_type: MigrateType) -> Option<BlockIndex> {
        if !self.may_commit(self.online.saturating_add(1), 1) {
            return None;
        }
        if tables.released.lowest_outside(&self.region).is_none() && self.online < tables.len {
            self.bring_online(tables, self.online + 1);
        }
        let block = tables.released.lowest_outside(&self.region)?;
        self.commit(tables, block, migrate_type);
        Some(block)
    }

    /// Starts to use the memory of a released pageblock, which counts as held from now on.
    fn commit(&mut self, tables: &Tables, block: BlockIndex, migrate_type: MigrateType) {
        tables.released.remove(block);
        tables.skip.remove(block);
        tables.blocks.set_state(block, PageblockState::committed(migrate_type));
        self.committed += 1;
        self.update_table_bytes();
        // A pageblock with failed memory was decommitted since, so its frames get other memory.
        tables.failed.forget(block.first().index()..block.first().plus(PAGEBLOCK_FRAMES).index());
        self.account(tables, block.first(), PAGEBLOCK_FRAMES, Occupancy::Free);
        self.link(tables, block.first(), Order::PAGEBLOCK);
    }

    /// Takes an idle pageblock off its list, so that it can be decommitted without the zone lock.
    pub(crate) fn begin_release(&mut self, tables: &Tables, block: BlockIndex) {
        let head = if tables.frames.state(block.first()).kind() == Some(Kind::Free) {
            block.first()
        } else {
            block.first().buddy(Order::PAGEBLOCK)
        };
        let order = self.unlink(tables, head);
        self.account(tables, block.first(), PAGEBLOCK_FRAMES, Occupancy::Taken);
        if order > Order::PAGEBLOCK {
            let other = block.first().buddy(Order::PAGEBLOCK);
            self.link_rest(tables, other, other.plus(PAGEBLOCK_FRAMES));
        }
        let block_state = tables.blocks.state(block);
        tables.blocks.set_state(
            block,
            PageblockState { commit_state: CommitState::Releasing, ..block_state },
        );
        // `account` counted it as in use.
        tables.in_use.remove(block);
        self.committed -= 1;
        self.releasing += 1;
    }

    /// Ends the release of a pageblock: it is free again and has no memory.
    pub(crate) fn finish_release(&mut self, tables: &Tables, block: BlockIndex) {
        let block_state = tables.blocks.state(block);
        self.ledger.untouch(u64::from(block_state.touched));
        tables.blocks.set_state(
            block,
            PageblockState { commit_state: CommitState::Released, touched: 0, ..block_state },
        );
        tables.released.insert(block);
        self.releasing -= 1;
        self.released_total += 1;
        self.update_table_bytes();
    }

    /// Tells the ledger the size of the tables, after pageblocks got or lost descriptors.
    fn update_table_bytes(&mut self) {
        let resident = self.committed + self.releasing;
        self.ledger.set_table_bytes(Tables::committed_bytes(self.online, resident));
    }

    /// Changes the type of a pageblock to `to` when at least half of it is free, before a
    /// request takes frames of it.
    fn steal(&mut self, tables: &Tables, block: BlockIndex, to: MigrateType) {
        let block_state = tables.blocks.state(block);
        if block_state.migrate_type != MigrateType::Cma && block_state.free * 2 >= PAGEBLOCK_FRAMES
        {
            self.retype(tables, block, to);
        }
    }

    /// Changes the type of a pageblock and moves its free blocks to the lists of that type.
    fn retype(&mut self, tables: &Tables, block: BlockIndex, to: MigrateType) {
        let from = tables.blocks.state(block).migrate_type;
        if from == to {
            return;
        }
        let end = block.first().plus(PAGEBLOCK_FRAMES);
        let mut pfn = block.first();
        let mut last = block;
        while pfn < end {
            let state = tables.frames.state(pfn);
            let step = state.order().map_or(1, Order::frames);
            if let (Some(Kind::Free), Some(order)) = (state.kind(), state.order()) {
                self.lists.unlink(
                    &tables.frames,
                    pfn,
                    order,
                    FreeListKind::Type(from),
                    State::INSIDE,
                );
                self.lists.link(&tables.frames, pfn, order, FreeListKind::Type(to));
                last = pfn.plus(step - 1).block();
            }
            pfn = pfn.plus(step);
        }
        self.set_type(tables, block, to);
        if last != block {
            self.set_type(tables, last, to);
        }
    }

    /// Sets the type of a pageblock and moves it to the set of that type. The caller relinks its
    /// free blocks.
    pub(crate) fn set_type(&mut self, tables: &Tables, block: BlockIndex, to: MigrateType) {
        let block_state = tables.blocks.state(block);
        if block_state.migrate_type != to && block_state.free > 0 && !block_state.isolated {
            tables.available[block_state.migrate_type.index()].remove(block);
            tables.available[to.index()].insert(block);
        }
        tables.blocks.set_state(block, PageblockState { migrate_type: to, ..block_state });
    }

    /// Takes the free block that starts at `pfn` off its list. Its first frame is then "inside".
    fn unlink(&mut self, tables: &Tables, pfn: Pfn) -> Order {
        let order = order_of_free(&tables.frames, pfn);
        let list_kind = tables.blocks.state(pfn.block()).list_kind();
        self.lists.unlink(&tables.frames, pfn, order, list_kind, State::INSIDE);
        order
    }

    /// Marks `count` adjacent frames as free or taken in the maps and counts of their pageblocks.
    fn account(&mut self, tables: &Tables, first: Pfn, count: u32, to: Occupancy) {
        let mut done = 0;
        while done < count {
            let pfn = first.plus(done);
            let here = (PAGEBLOCK_FRAMES - pfn.offset_in_block()).min(count - done);
            tables.blocks.flip(pfn, here, to);
            self.count_free(tables, pfn.block(), here, to);
            done += here;
        }
    }

    fn count_free(&mut self, tables: &Tables, block: BlockIndex, count: u32, to: Occupancy) {
        let block_state = tables.blocks.state(block);
        let free =
            if to == Occupancy::Free { block_state.free + count } else { block_state.free - count };
        tables.blocks.set_state(block, PageblockState { free, ..block_state });
        match (block_state.free, free) {
            (_, PAGEBLOCK_FRAMES) => tables.in_use.remove(block),
            (PAGEBLOCK_FRAMES, _) => tables.in_use.insert(block),
            _ => {}
        }
        if block_state.isolated {
            return;
        }
        // The pageblock enters or leaves the sets of available and of wholly free pageblocks.
        let available = &tables.available[block_state.migrate_type.index()];
        match (block_state.free, free) {
            (0, _) => available.insert(block),
            (_, 0) => available.remove(block),
            _ => {}
        }
        match (block_state.free, free) {
            (_, PAGEBLOCK_FRAMES) => {
                tables.idle.insert(block);
                self.idle += 1;
            }
            (PAGEBLOCK_FRAMES, _) => {
                tables.idle.remove(block);
                self.idle -= 1;
            }
            _ => {}
        }
    }
}

fn order_of_free(frames: &Descriptors, pfn: Pfn) -> Order {
    let state = frames.state(pfn);
    match (state.kind(), state.order()) {
        (Some(Kind::Free), Some(order)) => order,
        _ => panic!("{pfn} must be the first frame of a free block but is {state:?}"),
    }
}
