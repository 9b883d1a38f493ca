//! Requests: which free frames serve them, and taking those.

use super::Buddy;
use super::freelist::FreeListKind;
use super::ledger::{CaptureRoom, InFlight};
use super::pageblock::Occupancy;
use super::tables::Tables;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::page::State;
use crate::units::{BlockIndex, MigrateType, Order, Pfn};

impl Buddy {
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

    /// Takes single frames as [`Buddy::take_frames`] does, as migration targets: out of the lowest
    /// pageblock that may hold movable frames, if that pageblock is below `end`. They do not count
    /// against the limit.
    pub(crate) fn take_migration_targets(
        &mut self,
        tables: &Tables,
        end: BlockIndex,
        into: &mut [Pfn],
    ) -> InFlight {
        let lowest = |migrate_type: MigrateType| self.lowest_available(tables, migrate_type);
        let source = [MigrateType::Movable, MigrateType::Cma].into_iter().filter_map(lowest).min();
        let taken = match source.filter(|&block| block < end && !self.is_poisoned()) {
            Some(block) => self.take_from(tables, block, into),
            None => 0,
        };
        self.ledger.begin_flight(taken as u64)
    }

    /// Takes single frames as [`Buddy::take_frames`] does, but commits no pageblock.
    pub(crate) fn take_committed(
        &mut self,
        tables: &Tables,
        migrate_type: MigrateType,
        into: &mut [Pfn],
    ) -> usize {
        let lowest = |of: &MigrateType| self.lowest_available(tables, *of);
        let fallbacks = migrate_type.fallbacks().iter();
        let Some(block) = [migrate_type].iter().chain(fallbacks).find_map(lowest) else { return 0 };
        self.steal(tables, block, migrate_type);
        self.take_from(tables, block, into)
    }

    /// Takes the lowest free frames of a pageblock until `into` is full, none is left or the limit
    /// is reached.
    fn take_from(&mut self, tables: &Tables, block: BlockIndex, into: &mut [Pfn]) -> usize {
        let mut taken = 0;
        while taken < into.len() {
            let Some(head) = tables.blocks.first_free(block) else { break };
            // At most a pageblock: `into` is shorter than that.
            let wanted = tables.order_of_free(head).frames().min((into.len() - taken) as u32);
            let count = self.count_within_limit(tables, head, wanted);
            if count == 0 {
                break;
            }
            self.cut(tables, head, head, count);
            self.note_touched(tables, head, count);
            for pfn in (0..count).map(|step| head.plus(step)) {
                tables.frames.change(pfn, State::INSIDE, State::CACHED);
                into[taken] = pfn;
                taken += 1;
            }
        }
        taken
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
        self.cut(tables, pfn, pfn, order.frames());
        self.note_touched(tables, pfn, order.frames());
        tables.frames.change(pfn, State::INSIDE, to);
        Some(pfn)
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
        while let Some(found) = (next.0..end.0).map(Pfn).find(|&pfn| tables.blocks.is_free(pfn)) {
            let (head, order) = tables.free_block_of(found);
            let (from, to) = (head.max(first), head.plus(order.frames()).min(end));
            let count = to.0 - from.0;
            if !self.is_within_limit(tables, from, count) {
                return;
            }
            self.cut(tables, head, from, count);
            self.note_touched(tables, from, count);
            for pfn in (from.0..to.0).map(Pfn) {
                tables.frames.change(pfn, State::INSIDE, State::used(Order::SINGLE));
                taken(pfn);
            }
            self.ledger.captured(room, u64::from(count));
            next = to;
        }
    }

    /// Takes and charges frames of a free block, now "inside", and puts the rest of it back.
    pub(super) fn cut(&mut self, tables: &Tables, head: Pfn, first: Pfn, count: u32) {
        let order = self.unlink(tables, head);
        tables.account(first, count, Occupancy::Taken);
        self.ledger.charge_frames(u64::from(count));
        self.link_rest(tables, head, first);
        self.link_rest(tables, first.plus(count), head.plus(order.frames()));
    }

    /// Finds the pageblock for single frames, and commits or retypes one if necessary.
    fn find_pageblock(&mut self, tables: &Tables, migrate_type: MigrateType) -> Option<BlockIndex> {
        let own = self
            .lowest_available(tables, migrate_type)
            .or_else(|| self.find_idle_pageblock(tables, migrate_type));
        if own.is_some() {
            return own;
        }
        let block = migrate_type.fallbacks().iter().find_map(|&other| {
            match self.lowest_available(tables, other) {
                None if other == MigrateType::Cma => self.commit_cma(tables),
                found => found,
            }
        })?;
        self.steal(tables, block, migrate_type);
        Some(block)
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
        idle.map(BlockIndex::first).or_else(|| {
            // Then the largest block of another type, as in the kernel: its rest serves most later
            // requests. Not of the CMA region: a block cannot be migrated out of it.
            let may = |other: &MigrateType| *other != MigrateType::Cma || tables.region.is_empty();
            let others = || migrate_type.fallbacks().iter().copied().filter(may);
            let pfn = order.and_larger().rev().find_map(|order| {
                others().find_map(|other| self.lists.first(FreeListKind::Type(other), order))
            })?;
            self.steal(tables, pfn.block(), migrate_type);
            Some(pfn)
        })
    }

    /// Finds the lowest wholly free pageblock, or commits one, and sets its type.
    fn find_idle_pageblock(
        &mut self,
        tables: &Tables,
        migrate_type: MigrateType,
    ) -> Option<BlockIndex> {
        if migrate_type == MigrateType::Cma && !tables.region.is_empty() {
            return self.commit_cma(tables);
        }
        if let Some(block) = tables.idle.lowest_outside(&tables.region) {
            self.retype(tables, block, migrate_type);
            return Some(block);
        }
        if !self.may_commit(self.online.saturating_add(1), 1) {
            return None;
        }
        let released = || tables.released.lowest_outside(&tables.region);
        if released().is_none() && self.online < tables.len {
            self.bring_online(tables, self.online + 1);
        }
        let block = released()?;
        self.commit(tables, block, migrate_type);
        Some(block)
    }

    /// Finds two wholly free pageblocks that form a block of the largest order, or commits them.
    fn find_idle_pair(&mut self, tables: &Tables, migrate_type: MigrateType) -> Option<BlockIndex> {
        let even = self.lowest_pair(tables).filter(|even| self.may_commit(even.0 + 2, 2))?;
        for block in [even, BlockIndex(even.0 + 1)] {
            self.bring_online(tables, block.0 + 1);
            if tables.released.contains(block) {
                self.commit(tables, block, migrate_type);
            }
        }
        self.retype(tables, even, migrate_type);
        Some(even)
    }

    /// Changes the type of a pageblock, before frames of it are taken, if at least half is free.
    fn steal(&mut self, tables: &Tables, block: BlockIndex, to: MigrateType) {
        let block_state = tables.blocks.state(block);
        if block_state.migrate_type != MigrateType::Cma && block_state.free * 2 >= PAGEBLOCK_FRAMES
        {
            self.retype(tables, block, to);
        }
    }
}
