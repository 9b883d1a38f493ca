//! The limits of a zone, and what counts against them.
//!
//! ```text
//!  memory  = frames touched + tables of the zone + what owners charged     <= memory limit
//!  counted = frames in use or cached + kept for captures - about to be freed
//!                                    <= frame limit
//!                                    <= memory limit - tables - charges - reserve
//! ```
//! A frame is *touched* from the first time it is allocated until its pageblock is decommitted. All
//! that time the OS may hold memory for it, in use or free. So `memory` is what the zone holds. No
//! request raises it above the limit: a request that would touch a new frame is refused, or gets a
//! frame that was used before.
//!
//! With huge pages the first touch commits a whole pageblock, which then counts as touched as a
//! whole (the *granule*). A zone with a small limit uses small pages.
//!
//! The reserve is a few frames below the limit that only an [`OverLimit`](crate::OverLimit) may
//! take: moving content to where it takes less memory needs a frame for a moment.

use super::Buddy;
use crate::charge::ChargePurpose;
use crate::descriptor::DESCRIPTOR_SIZE;
use crate::error::AllocError;
use crate::geometry::{FRAME_SIZE, PAGEBLOCK_FRAMES};
use crate::tables::Tables;
use crate::units::{BlockIndex, MigrateType, Pfn};

/// The most frames of the reserve.
const MAX_RESERVE: u64 = 64;

/// Frames kept in addition when there is any reservation: records come in chunks, and the first
/// reserved frame may need a chunk of each kind.
const RECORD_CHUNKS: u64 = 48;

/// Reserved frames whose records fit in one frame: a descriptor, a handle and the record of a
/// zspage take at most 142 bytes.
const RECORDS_IN_A_FRAME: u64 = 28;

/// What counts against the memory limit, except the zone's tables, whose size follows from the
/// pageblocks.
#[derive(Debug)]
pub(crate) struct MemoryLedger {
    /// The memory limit; `None` for no limit. Units: bytes.
    pub(crate) limit: Option<u64>,
    /// Frames touched.
    pub(crate) touched: u64,
    /// What owners have charged. Units: bytes.
    pub(crate) charged: u64,
    /// The size of the zone itself. Units: bytes.
    pub(crate) fixed: u64,
    /// Adjacent frames that the OS commits together.
    pub(crate) granule: u32,
    /// Whether more is held than a lowered limit allows.
    pub(crate) exceeded: bool,
}

impl Buddy {
    /// Returns how many frames may still be taken below the limits. A poisoned zone has none.
    pub(crate) fn headroom(&self) -> u64 {
        if self.is_poisoned() {
            return 0;
        }
        let most = self.frame_limit();
        most.map_or(u64::MAX, |most| most.saturating_sub(self.counted()))
    }

    /// Returns how many frames may be in use by both limits; `None` for no limit.
    pub(crate) fn frame_limit(&self) -> Option<u64> {
        self.frame_limit_beside(self.reservations)
    }

    /// Returns [`Buddy::frame_limit`] if `reservations` frames were reserved.
    fn frame_limit_beside(&self, reservations: u64) -> Option<u64> {
        let kept = |limit| reserve_of(limit) + kept_for_records(reservations);
        let by_memory =
            self.memory.limit.map(|limit| self.frames_within(limit).saturating_sub(kept(limit)));
        let by_count = self.limit.map(|limit| limit.0);
        by_count.into_iter().chain(by_memory).min()
    }

    /// Returns how many frames fit below the memory limit: those touched, and more with the
    /// descriptors they will need.
    fn frames_within(&self, limit: u64) -> u64 {
        let frame = FRAME_SIZE as u64;
        let Some(room) = limit.checked_sub(self.memory_bytes()) else {
            return limit.saturating_sub(self.metadata_bytes()) / frame;
        };
        // Each further pageblock also needs memory for its descriptors.
        let descriptors = u64::from(PAGEBLOCK_FRAMES) * DESCRIPTOR_SIZE as u64;
        let a_block = u64::from(PAGEBLOCK_FRAMES) * frame + descriptors;
        // Each of the other tables may grow by a page.
        let room = room.saturating_sub(8 * frame);
        let rest = (room % a_block).saturating_sub(descriptors) / frame;
        let granule = u64::from(self.memory.granule);
        self.memory.touched
            + room / a_block * u64::from(PAGEBLOCK_FRAMES)
            + rest / granule * granule
    }

    /// Returns how many frames count against the limits. In-flight frames may replace frames that
    /// are already freed, so the difference saturates.
    pub(crate) fn counted(&self) -> u64 {
        (self.charged + self.reserved + self.reservations).saturating_sub(self.in_flight)
    }

    /// Returns what no other request can have: counted frames, metadata, and the room kept for the
    /// records of reserved frames. Units: bytes.
    pub(crate) fn needed_bytes(&self) -> u64 {
        self.counted_bytes() + kept_for_records(self.reservations) * FRAME_SIZE as u64
    }

    /// Returns the bytes of counted frames and metadata.
    fn counted_bytes(&self) -> u64 {
        self.counted() * FRAME_SIZE as u64 + self.metadata_bytes()
    }

    /// Reserves room for `frames` frames below the limits. Returns whether there was enough.
    pub(crate) fn reserve(&mut self, frames: u64) -> bool {
        let sum = self.reservations.saturating_add(frames);
        let wanted = self.counted().saturating_add(frames);
        let fits =
            !self.is_poisoned() && self.frame_limit_beside(sum).is_none_or(|most| wanted <= most);
        if fits {
            self.reservations = sum;
        }
        fits
    }

    /// Returns the bytes of everything that is not a frame.
    pub(crate) fn metadata_bytes(&self) -> u64 {
        let resident = self.committed + self.releasing;
        Tables::committed_bytes(self.online, resident) + self.memory.fixed + self.memory.charged
    }

    /// Returns the bytes of everything the zone holds.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory.touched * FRAME_SIZE as u64 + self.metadata_bytes()
    }

    /// Returns the bytes left below the memory limit.
    pub(crate) fn memory_headroom(&self) -> u64 {
        self.memory.limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.memory_bytes()))
    }

    /// Returns how many frames may be touched. Above a lowered limit these are the frames in
    /// flight: without them nothing could be moved to where it takes less memory.
    pub(crate) fn touchable(&self) -> u64 {
        let Some(limit) = self.memory.limit else { return u64::MAX };
        match limit.checked_sub(self.memory_bytes()) {
            Some(room) => room / FRAME_SIZE as u64,
            None => self.in_flight.min(MAX_RESERVE),
        }
    }

    /// Charges the metadata of an owner. The room kept for the records of reserved frames is for
    /// [`ChargePurpose::ReservedFrame`] only.
    ///
    /// # Errors
    /// [`AllocError::Limit`] or [`AllocError::Poisoned`]; nothing has changed then.
    pub(crate) fn charge(&mut self, bytes: u64, purpose: ChargePurpose) -> Result<(), AllocError> {
        let needed = match purpose {
            ChargePurpose::General => self.needed_bytes(),
            ChargePurpose::ReservedFrame => self.counted_bytes(),
        };
        if self.is_poisoned() {
            return Err(AllocError::Poisoned);
        }
        let taken = self.memory_bytes().max(needed);
        match self.memory.limit {
            Some(limit) if limit.checked_sub(taken).is_none_or(|room| room < bytes) => {
                Err(AllocError::Limit)
            }
            _ => {
                self.memory.charged += bytes;
                Ok(())
            }
        }
    }

    /// Notes whether more is held than the limit allows.
    pub(crate) fn note_exceeded(&mut self) {
        self.memory.exceeded = self.memory.limit.is_some_and(|limit| self.memory_bytes() > limit);
    }

    /// Returns how many of `count` frames from `first` on, in one pageblock, can be taken below the
    /// memory limit.
    pub(super) fn count_within_limit(&self, tables: &Tables, first: Pfn, count: u32) -> u32 {
        let more = self.touchable();
        if more >= u64::from(PAGEBLOCK_FRAMES) {
            return count;
        }
        // Below a pageblock, so it fits.
        let more = more as u32 / self.memory.granule * self.memory.granule;
        let end = tables.blocks.state(first.block()).touched + more;
        end.saturating_sub(first.offset_in_block()).min(count)
    }

    /// Returns whether all frames of a range can be taken below the memory limit. The range may
    /// span pageblocks.
    pub(super) fn is_within_limit(&self, tables: &Tables, first: Pfn, count: u32) -> bool {
        let more: u64 = parts(first, count)
            .map(|(pfn, here)| u64::from(self.newly_touched(tables, pfn, here)))
            .sum();
        more <= self.touchable()
    }

    /// Counts allocated frames as touched.
    pub(super) fn note_touched(&mut self, tables: &Tables, first: Pfn, count: u32) {
        for (pfn, here) in parts(first, count) {
            let more = self.newly_touched(tables, pfn, here);
            if more > 0 {
                let block_state = tables.blocks.state(pfn.block());
                tables.blocks.set_state(
                    pfn.block(),
                    crate::pageblock::PageblockState {
                        touched: block_state.touched + more,
                        ..block_state
                    },
                );
                self.memory.touched += u64::from(more);
            }
        }
    }

    /// Returns how many frames would become touched if these frames of one pageblock were taken.
    fn newly_touched(&self, tables: &Tables, first: Pfn, count: u32) -> u32 {
        let end = (first.offset_in_block() + count)
            .next_multiple_of(self.memory.granule)
            .min(PAGEBLOCK_FRAMES);
        end.saturating_sub(tables.blocks.state(first.block()).touched)
    }

    /// Returns whether `blocks` more pageblocks, below a high-water mark of `online`, can be
    /// committed and used.
    pub(super) fn may_commit(&self, online: u32, blocks: u32) -> bool {
        if self.memory.limit.is_none() {
            return true;
        }
        let resident = self.committed + self.releasing;
        let now = Tables::committed_bytes(self.online, resident);
        let then = Tables::committed_bytes(online.max(self.online), resident + blocks);
        self.memory_headroom()
            >= then - now + u64::from(blocks * self.memory.granule) * FRAME_SIZE as u64
    }

    /// Returns the lowest pageblock of a type with a free frame that can be taken below the memory
    /// limit.
    pub(super) fn lowest_available(
        &self,
        tables: &Tables,
        migrate_type: MigrateType,
    ) -> Option<BlockIndex> {
        let blocks = &tables.available[migrate_type.index()];
        let mut block = blocks.lowest()?;
        // Nearly all pageblocks are touched as a whole, so the first one nearly always has such a
        // frame.
        while tables
            .blocks
            .first_free(block)
            .is_none_or(|pfn| self.count_within_limit(tables, pfn, 1) == 0)
        {
            block = blocks.lowest_from(block.0 + 1)?;
        }
        Some(block)
    }
}

/// Returns how many frames are kept for the records of what is stored in reserved frames.
fn kept_for_records(reservations: u64) -> u64 {
    if reservations == 0 { 0 } else { RECORD_CHUNKS + reservations / RECORDS_IN_A_FRAME }
}

/// Returns how many frames below a limit only an [`OverLimit`](crate::OverLimit) may take. Units:
/// `limit` is in bytes.
fn reserve_of(limit: u64) -> u64 {
    (limit / FRAME_SIZE as u64 / 32).min(MAX_RESERVE)
}

/// Splits a range at the borders of pageblocks.
fn parts(first: Pfn, count: u32) -> impl Iterator<Item = (Pfn, u32)> {
    let end = first.plus(count);
    let after = move |pfn: Pfn| pfn.block().first().plus(PAGEBLOCK_FRAMES).min(end);
    std::iter::successors(Some(first), move |&pfn| Some(after(pfn)))
        .take_while(move |&pfn| pfn < end)
        .map(move |pfn| (pfn, after(pfn).0 - pfn.0))
}
