//! The accounting equations of a zone, and the walk that proves them.
//!
//! ```text
//!  charged   = frames in use + on per-CPU lists + retired         by descriptor, each frame
//!  free      = frames in blocks on buddy lists                    = bits in the free maps
//!                                                                 = counts of the pageblocks
//!  committed * 512 = charged + free
//!  online    = committed + releasing + released pageblocks
//!  touched   = sum over the pageblocks; no frame beyond its pageblock's is in use or cached
//!  touched * 4096 + tables + owners' charges <= memory limit      unless it was lowered below that
//! ```
//! The tables are the truth: lists and counts must agree with them.

use super::Zone;
use super::drain::ZoneLocked;
use crate::buddy::{CommitState, FREE_LIST_KINDS, FreeListKind, PageblockState};
use crate::error::CheckError;
use crate::geometry::{ORDERS, PAGEBLOCK_FRAMES};
use crate::page::{Kind, NO_FRAME, State};
use crate::units::{BlockIndex, MigrateType, Order, Pfn};

/// The sums of the walk over the descriptors.
#[derive(Default)]
struct Found {
    used: u64,
    cached: u64,
    retired: u64,
    isolated: u64,
    free: [[u64; ORDERS]; FREE_LIST_KINDS],
    committed: u64,
    idle: u64,
    releasing: u64,
    touched: u64,
}

impl Zone {
    /// Checks the accounting equations of the zone. For tests and diagnosis: it visits every frame,
    /// and no other thread may be inside a call to this zone.
    ///
    /// Locking: all locks of the zone, until it returns.
    ///
    /// # Errors
    /// [`CheckError`]: the first inconsistency.
    pub fn check(&self) -> Result<(), CheckError> {
        let all = self.allocator.lock_all();
        if all.buddy.is_poisoned() {
            return Err(CheckError::Poisoned);
        }
        // Walk all pageblocks, then compare the lists and the counts with the sums.
        let mut found = Found::default();
        let mut next = Pfn(0);
        for block in (0..all.buddy.online).map(BlockIndex) {
            next = self.check_block(block, next.max(block.first()), &mut found)?;
        }
        self.check_lists(&all, &found)?;
        self.check_counts(&all, &found)
    }

    /// Checks one pageblock from `next` on. A block of frames that began in an earlier pageblock
    /// covers the frames before. Returns the first frame that was not checked.
    fn check_block(
        &self,
        block: BlockIndex,
        next: Pfn,
        found: &mut Found,
    ) -> Result<Pfn, CheckError> {
        let blocks = &self.tables().blocks;
        let block_state = blocks.state(block);
        self.check_sets(block, block_state)?;
        found.touched += u64::from(block_state.touched);
        if block_state.commit_state != CommitState::Committed {
            found.releasing += u64::from(block_state.commit_state == CommitState::Releasing);
            self.check_state(block.first(), State::INSIDE)?;
            return Ok(next);
        }
        found.committed += 1;
        found.idle += u64::from(block_state.free == PAGEBLOCK_FRAMES && !block_state.isolated);
        let mut pfn = next;
        while pfn < block.first().plus(PAGEBLOCK_FRAMES) {
            pfn = self.check_frame(pfn, block_state, found)?;
        }
        // The count of free frames must match the free map.
        let frames = (0..PAGEBLOCK_FRAMES).map(|offset| block.first().plus(offset));
        let free = frames.filter(|&pfn| blocks.is_free(pfn)).count();
        if free as u32 == block_state.free { Ok(pfn) } else { Err(CheckError::Pageblock(block.0)) }
    }

    fn check_state(&self, pfn: Pfn, expected: State) -> Result<(), CheckError> {
        let state = self.tables().frames.state(pfn);
        if state == expected { Ok(()) } else { Err(CheckError::State { pfn, state: state.0 }) }
    }

    /// Checks the block of frames that starts at `pfn` and returns the frame after it.
    fn check_frame(
        &self,
        pfn: Pfn,
        block_state: PageblockState,
        found: &mut Found,
    ) -> Result<Pfn, CheckError> {
        let tables = self.tables();
        let state = tables.frames.state(pfn);
        let broken = CheckError::State { pfn, state: state.0 };
        let order =
            state.order().filter(|order| pfn.0.is_multiple_of(order.frames())).ok_or(broken)?;
        // The kind decides which sum the block belongs to.
        match state.kind() {
            Some(Kind::Free) => {
                found.free[block_state.list_kind().index()][order.index()] += 1;
                let buddy = pfn.buddy(order);
                let has_buddy = order < Order::MAX && buddy.block().0 < tables.len;
                let joins =
                    || order < Order::PAGEBLOCK || tables.can_merge(pfn.block(), buddy.block());
                if has_buddy && joins() && tables.frames.state(buddy) == State::free(order) {
                    return Err(CheckError::Unmerged(pfn));
                }
            }
            Some(Kind::Used | Kind::Frozen) if state.references() > 0 => {
                found.used += u64::from(order.frames());
                found.isolated += u64::from(state.is_isolated());
            }
            Some(Kind::Cached) => found.cached += 1,
            Some(Kind::Retired) if state == State::RETIRED => found.retired += 1,
            _ => return Err(broken),
        }
        let is_free = state.kind() == Some(Kind::Free);
        let last = pfn.plus(order.frames() - 1);
        let was_handed_out = last.offset_in_block() < tables.blocks.state(last.block()).touched;
        // The memory of a frame can fail before its first use.
        if !is_free && state != State::RETIRED && !was_handed_out {
            return Err(broken);
        }
        // The other descriptors of the block are "inside", and the free map agrees with all of
        // them.
        for inner in (pfn.0..=last.0).map(Pfn) {
            if tables.blocks.is_free(inner) != is_free {
                return Err(CheckError::FreeMap(inner));
            }
            if inner != pfn {
                self.check_state(inner, State::INSIDE)?;
            }
        }
        Ok(last.plus(1))
    }

    /// Checks that a pageblock is in exactly the sets that its state requires.
    fn check_sets(&self, block: BlockIndex, block_state: PageblockState) -> Result<(), CheckError> {
        let (tables, free) = (self.tables(), block_state.free);
        let is = |commit_state| block_state.commit_state == commit_state;
        let committed = is(CommitState::Committed);
        let listed = committed && !block_state.isolated;
        let fits = tables.released.contains(block) == is(CommitState::Released)
            && tables.idle.contains(block) == (listed && free == PAGEBLOCK_FRAMES)
            && tables.in_use.contains(block) == (committed && free < PAGEBLOCK_FRAMES)
            && MigrateType::ALL.iter().all(|&migrate_type| {
                let expected = listed && free > 0 && block_state.migrate_type == migrate_type;
                tables.available[migrate_type.index()].contains(block) == expected
            })
            && !is(CommitState::Offline)
            && (committed || free == 0 && !block_state.isolated);
        if fits { Ok(()) } else { Err(CheckError::Pageblock(block.0)) }
    }

    /// Checks that each list is linked both ways and holds exactly the free blocks of its type and
    /// order, and that every frame on a per-CPU list is "cached".
    fn check_lists(&self, all: &ZoneLocked<'_>, found: &Found) -> Result<(), CheckError> {
        let (frames, blocks) = (&self.tables().frames, &self.tables().blocks);
        for list_kind in FreeListKind::ALL {
            for order in Order::SINGLE.and_larger() {
                let expected = found.free[list_kind.index()][order.index()];
                let (mut previous, mut left) = (NO_FRAME, expected);
                let mut next = all.buddy.lists.first(list_kind, order);
                while let Some(pfn) = next {
                    let fits = left > 0
                        && frames.state(pfn) == State::free(order)
                        && frames.previous(pfn) == previous
                        && blocks.state(pfn.block()).list_kind() == list_kind;
                    if !fits {
                        return Err(CheckError::List { list_kind: list_kind.name(), order, pfn });
                    }
                    (previous, left) = (pfn.0, left - 1);
                    next = Some(frames.next(pfn)).filter(|&next| next != NO_FRAME).map(Pfn);
                }
                let linked = expected - left;
                count("a list's length", all.buddy.lists.blocks(list_kind, order), linked)?;
                count("blocks on a list", expected, linked)?;
            }
        }
        let stacks =
            all.lists.iter().flat_map(|list| MigrateType::ALL.map(|kind| list.frames(kind)));
        stacks.flatten().try_for_each(|&pfn| self.check_state(pfn, State::CACHED))
    }

    fn check_counts(&self, all: &ZoneLocked<'_>, found: &Found) -> Result<(), CheckError> {
        let (buddy, tables) = (&*all.buddy, self.tables());
        let ledger = &buddy.ledger;
        count("frames on per-CPU lists", all.cached(), found.cached)?;
        count("retired frames", buddy.retired, found.retired)?;
        count("frames charged", ledger.charged, found.used + found.cached + found.retired)?;
        count("frames in flight", ledger.in_flight, 0)?;
        count("frames reserved by captures", ledger.kept_for_captures, 0)?;
        count("isolated frames", self.vmstat().nr_isolated, found.isolated)?;
        count("touched frames", ledger.touched, found.touched)?;
        let held = ledger.memory_bytes();
        let limit = ledger.upheld_memory_limit().unwrap_or(held);
        count("memory below the limit", limit.min(held), held)?;
        count("committed pageblocks", buddy.committed.into(), found.committed)?;
        count("idle pageblocks", self.allocator.tables.idle.members(), found.idle)?;
        count("pageblocks being released", buddy.releasing.into(), found.releasing)?;
        let (released, pairs) = tables.released.recount();
        count("pageblocks without memory", tables.released.members(), released)?;
        count("pairs of pageblocks without memory", tables.released.pairs(), pairs)?;
        let of_types = tables.blocks.counts().into_iter().zip(tables.blocks.recount(buddy.online));
        for (counted, found) in of_types {
            count("pageblocks of a type", counted, found)?;
        }
        let online = found.committed + found.releasing + released;
        count("online pageblocks", buddy.online.into(), online)?;
        let orders = Order::SINGLE.and_larger();
        let free = orders.map(|order| {
            found.free.iter().map(|blocks| blocks[order.index()]).sum::<u64>() << order.get()
        });
        let committed = found.committed << Order::PAGEBLOCK.get();
        count("frames of committed pageblocks", committed, ledger.charged + free.sum::<u64>())
    }
}

fn count(what: &'static str, counted: u64, found: u64) -> Result<(), CheckError> {
    if counted == found { Ok(()) } else { Err(CheckError::Count { what, counted, found }) }
}
