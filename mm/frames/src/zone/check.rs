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
use crate::buddy::{Buddy, CommitState, FREE_LIST_KINDS, FreeListKind, PageblockState};
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
            next = self.check_block(&all.buddy, block, next.max(block.first()), &mut found)?;
        }
        self.check_lists(&all, &found)?;
        self.check_counts(&all, &found)
    }

    /// Checks one pageblock from `next` on. A block of frames that began in an earlier pageblock
    /// covers the frames before. Returns the first frame that was not checked.
    fn check_block(
        &self,
        all: &Buddy,
        block: BlockIndex,
        next: Pfn,
        found: &mut Found,
    ) -> Result<Pfn, CheckError> {
        let block_state = self.allocator.tables.blocks.state(block);
        self.check_sets(block, block_state)?;
        if block_state.commit_state != CommitState::Committed {
            let state = self.allocator.tables.frames.state(block.first());
            found.releasing += u64::from(block_state.commit_state == CommitState::Releasing);
            found.touched += u64::from(block_state.touched);
            return match state {
                State::INSIDE => Ok(next),
                _ => Err(CheckError::State { pfn: block.first(), state: state.bits() }),
            };
        }
        found.committed += 1;
        found.touched += u64::from(block_state.touched);
        found.idle += u64::from(block_state.free == PAGEBLOCK_FRAMES && !block_state.isolated);
        let end = block.first().plus(PAGEBLOCK_FRAMES);
        let mut pfn = next;
        while pfn < end {
            pfn = self.check_frame(all, pfn, block_state, found)?;
        }
        // The count of free frames must match the free map.
        let frames = (0..PAGEBLOCK_FRAMES).map(|offset| block.first().plus(offset));
        let free = frames.filter(|&pfn| self.allocator.tables.blocks.is_free(pfn)).count();
        if free as u32 == block_state.free {
            Ok(pfn)
        } else {
            Err(CheckError::Pageblock { block: block.0 })
        }
    }

    /// Checks the block of frames that starts at `pfn` and returns the frame after it.
    fn check_frame(
        &self,
        all: &Buddy,
        pfn: Pfn,
        block_state: PageblockState,
        found: &mut Found,
    ) -> Result<Pfn, CheckError> {
        let state = self.allocator.tables.frames.state(pfn);
        let broken = CheckError::State { pfn, state: state.bits() };
        let order =
            state.order().filter(|order| pfn.0.is_multiple_of(order.frames())).ok_or(broken)?;
        let end = pfn.plus(order.frames());
        // The kind decides which sum the block belongs to, and whether the free map has it.
        let is_free = match state.kind() {
            Some(Kind::Free) => {
                found.free[block_state.list_kind().index()][order.index()] += 1;
                let buddy = pfn.buddy(order);
                let has_buddy = order < Order::MAX && buddy.block().0 < self.allocator.tables.len;
                let joins = || {
                    order < Order::PAGEBLOCK
                        || all.can_merge(&self.allocator.tables, pfn.block(), buddy.block())
                };
                if has_buddy
                    && joins()
                    && self.allocator.tables.frames.state(buddy) == State::free(order)
                {
                    return Err(CheckError::Unmerged { pfn });
                }
                true
            }
            Some(Kind::Used | Kind::Frozen) if state.references() > 0 => {
                found.used += u64::from(order.frames());
                found.isolated += u64::from(state.is_isolated());
                false
            }
            Some(Kind::Cached) => {
                found.cached += 1;
                false
            }
            Some(Kind::Retired) if order == Order::SINGLE && state == State::RETIRED => {
                found.retired += 1;
                false
            }
            _ => return Err(broken),
        };
        // The memory of a frame can fail before its first use.
        if !is_free && state != State::RETIRED && !self.was_handed_out(Pfn(end.0 - 1)) {
            return Err(broken);
        }
        // The other descriptors of the block are "inside", and the free map agrees with all of
        // them.
        for inner in (pfn.0..end.0).map(Pfn) {
            if self.allocator.tables.blocks.is_free(inner) != is_free {
                return Err(CheckError::FreeMap { pfn: inner });
            }
            if inner != pfn && self.allocator.tables.frames.state(inner) != State::INSIDE {
                return Err(CheckError::State {
                    pfn: inner,
                    state: self.allocator.tables.frames.state(inner).bits(),
                });
            }
        }
        Ok(end)
    }

    fn was_handed_out(&self, pfn: Pfn) -> bool {
        pfn.offset_in_block() < self.allocator.tables.blocks.state(pfn.block()).touched
    }

    /// Checks that a pageblock is in exactly the sets that its state requires.
    fn check_sets(&self, block: BlockIndex, block_state: PageblockState) -> Result<(), CheckError> {
        let committed = block_state.commit_state == CommitState::Committed;
        let listed = committed && !block_state.isolated;
        let fits = self.allocator.tables.released.contains(block)
            == (block_state.commit_state == CommitState::Released)
            && self.allocator.tables.idle.contains(block)
                == (listed && block_state.free == PAGEBLOCK_FRAMES)
            && self.allocator.tables.in_use.contains(block)
                == (committed && block_state.free < PAGEBLOCK_FRAMES)
            && MigrateType::ALL.iter().all(|&migrate_type| {
                let expected =
                    listed && block_state.free > 0 && block_state.migrate_type == migrate_type;
                self.allocator.tables.available[migrate_type.index()].contains(block) == expected
            })
            && block_state.commit_state != CommitState::Offline
            && (committed || block_state.free == 0 && !block_state.isolated);
        if fits { Ok(()) } else { Err(CheckError::Pageblock { block: block.0 }) }
    }

    /// Checks that each list is linked both ways and holds exactly the free blocks of its type and
    /// order.
    fn check_lists(&self, all: &ZoneLocked<'_>, found: &Found) -> Result<(), CheckError> {
        for list_kind in FreeListKind::ALL {
            for order in Order::SINGLE.and_larger() {
                let expected = found.free[list_kind.index()][order.index()];
                let (mut previous, mut left) = (NO_FRAME, expected);
                let mut next = all.buddy.lists.first(list_kind, order);
                while let Some(pfn) = next {
                    let fits = left > 0
                        && self.allocator.tables.frames.state(pfn) == State::free(order)
                        && self.allocator.tables.frames.previous(pfn) == previous
                        && self.allocator.tables.blocks.state(pfn.block()).list_kind() == list_kind;
                    if !fits {
                        return Err(CheckError::List { list_kind: list_kind.name(), order, pfn });
                    }
                    (previous, left) = (pfn.0, left - 1);
                    next = Some(self.allocator.tables.frames.next(pfn))
                        .filter(|&next| next != NO_FRAME)
                        .map(Pfn);
                }
                count(
                    "a list's length",
                    all.buddy.lists.blocks(list_kind, order),
                    expected - left,
                )?;
                count("blocks on a list", expected, expected - left)?;
            }
        }
        // Every frame on a per-CPU list must be "cached".
        for (list, migrate_type) in
            all.lists.iter().flat_map(|list| MigrateType::ALL.map(|kind| (list, kind)))
        {
            for &pfn in list.frames(migrate_type) {
                let state = self.allocator.tables.frames.state(pfn);
                if state != State::CACHED {
                    return Err(CheckError::State { pfn, state: state.bits() });
                }
            }
        }
        Ok(())
    }

    /// Checks the running counts against a recount. Returns the number of pageblocks without
    /// memory.
    fn check_indices(&self, online: u32) -> Result<u64, CheckError> {
        let (released, pairs) = self.allocator.tables.released.recount();
        count("pageblocks without memory", self.allocator.tables.released.members(), released)?;
        count("pairs of pageblocks without memory", self.allocator.tables.released.pairs(), pairs)?;
        let counted = self.allocator.tables.blocks.counts().into_iter();
        counted
            .zip(self.allocator.tables.blocks.recount(online))
            .try_for_each(|(counted, found)| count("pageblocks of a type", counted, found))?;
        Ok(released)
    }

    fn check_counts(&self, all: &ZoneLocked<'_>, found: &Found) -> Result<(), CheckError> {
        let buddy: &Buddy = &all.buddy;
        count("frames on per-CPU lists", all.cached(), found.cached)?;
        count("retired frames", buddy.retired, found.retired)?;
        count("frames charged", buddy.ledger.charged(), found.used + found.cached + found.retired)?;
        count("frames in flight", buddy.ledger.in_flight(), 0)?;
        count("frames reserved by captures", buddy.ledger.kept_for_captures(), 0)?;
        count("isolated frames", self.events.isolated(), found.isolated)?;
        count("touched frames", buddy.ledger.touched(), found.touched)?;
        let held = buddy.ledger.memory_bytes();
        if let Some(limit) = buddy.ledger.upheld_memory_limit().filter(|&limit| held > limit) {
            return Err(CheckError::Count {
                what: "memory below the limit",
                counted: limit,
                found: held,
            });
        }
        count("committed pageblocks", buddy.committed.into(), found.committed)?;
        count("idle pageblocks", buddy.idle.into(), found.idle)?;
        count("pageblocks being released", buddy.releasing.into(), found.releasing)?;
        let released = self.check_indices(buddy.online)?;
        count(
            "online pageblocks",
            buddy.online.into(),
            found.committed + found.releasing + released,
        )?;
        let orders = Order::SINGLE.and_larger();
        let free = orders.map(|order| {
            found.free.iter().map(|blocks| blocks[order.index()]).sum::<u64>() << order.get()
        });
        count(
            "frames of committed pageblocks",
            found.committed << Order::PAGEBLOCK.get(),
            buddy.ledger.charged() + free.sum::<u64>(),
        )
    }
}

fn count(what: &'static str, counted: u64, found: u64) -> Result<(), CheckError> {
    if counted == found { Ok(()) } else { Err(CheckError::Count { what, counted, found }) }
}
