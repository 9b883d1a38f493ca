//! Contiguous allocation: a range of frames is cleared and handed out as a whole, for whoever needs neighbours.
//!
//! ```text
//!  1. the pageblocks of the range are isolated     what is free in them, or becomes free, is handed out to nobody
//!  2. room below the limit is reserved             and all per-CPU lists are emptied
//!  3. movable frames migrate out                   to frames elsewhere; the old ones are kept
//!  4. all of the range is ours                     or what was taken goes back, and the pageblocks are what they were
//! ```
//! A range need not begin or end where a pageblock does, and may lie where no memory is or ever was.

pub(crate) mod ranges;

use std::mem;
use std::ops::Range;

use thiserror::Error;

use crate::buddy::IsolateError;
use crate::budget::{Budget, Deadline};
use crate::capture::{self, CaptureError, ContigCapture};
use crate::events::add;
use crate::frame::Frame;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::migrate::MigrateMode;
use crate::pageblock::CommitState;
use crate::units::{BlockIndex, FrameCount, Pfn};
use crate::zone::Zone;

/// Pageblocks brought online in one turn with the zone lock.
const ONLINE_BATCH: u32 = 512;

/// How hard a contiguous allocation may try.
#[derive(Clone, Copy, Debug)]
pub struct ContigRequest {
    /// How hard.
    pub mode: MigrateMode,
    /// How long it may take. The clock is read several times for each pageblock that has to be cleared. A range of several pageblocks has to be
    /// had within a third of it: the rest is for giving back what was taken.
    pub budget: Budget,
}

impl Default for ContigRequest {
    fn default() -> Self {
        Self { mode: MigrateMode::Sync, budget: Budget::unlimited() }
    }
}

/// Why a range could not be had. The zone is as it was, but for movable frames that have another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ContigError {
    /// No frames, or frames the zone does not have.
    #[error("{frames} from {first} on are not in the zone")]
    Range {
        /// The first one.
        first: Pfn,
        /// How many.
        frames: FrameCount,
    },
    /// Fewer frames are left below the zone's limit.
    #[error("the zone's limit is reached")]
    Limit,
    /// A frame in the range cannot be had now: its owner uses it, or somebody else claims its pageblock.
    #[error("{pfn} is busy")]
    Busy {
        /// Which.
        pfn: Pfn,
    },
    /// A frame in the range has no owner who could move it.
    #[error("{pfn} cannot be moved")]
    Unmovable {
        /// Which.
        pfn: Pfn,
    },
    /// No frame is left to move what is in the range to.
    #[error("there is no room for what is in the range")]
    NoTargets,
    /// A panic cut short a change of the zone's free lists.
    #[error("the zone is out of order")]
    Poisoned,
    /// The budget ran out.
    #[error("it took too long")]
    OutOfTime,
    /// No range of this size is free of frames that cannot be moved.
    #[error("there is no range that could be cleared")]
    NoRange,
}

/// Neighbouring frames that are the caller's. Dropping it frees them; bytes as for [`Frame`].
#[derive(Debug)]
#[must_use = "dropping it gives the frames back"]
pub struct ContigRange<'z> {
    zone: &'z Zone,
    first: Pfn,
    frames: u32,
}

impl<'z> ContigRange<'z> {
    /// The first frame.
    #[must_use]
    pub fn first(&self) -> Pfn {
        self.first
    }

    /// How many there are.
    #[must_use]
    pub fn frames(&self) -> FrameCount {
        FrameCount(self.frames.into())
    }

    /// The frames one by one, ascending.
    #[must_use]
    pub fn into_frames(self) -> Vec<Frame<'z>> {
        let frames = (self.first.0..self.first.0 + self.frames)
            .map(|pfn| Frame::new(self.zone, Pfn(pfn)))
            .collect();
        mem::forget(self);
        frames
    }
}

impl Drop for ContigRange<'_> {
    fn drop(&mut self) {
        capture::free_contig_range(self.zone, (self.first.0..self.first.0 + self.frames).map(Pfn));
        self.zone.release_excess_if_due();
    }
}

impl Zone {
    /// Takes just these frames. Those that are in use are moved elsewhere, if their owners can.
    ///
    /// Locking: each per-CPU list for a moment, one after the other, and the zone lock in short turns.
    /// Call it with no lock of an owner held.
    ///
    /// # Errors
    /// [`ContigError`].
    pub fn alloc_contig_range(
        &self,
        range: Range<Pfn>,
        request: ContigRequest,
    ) -> Result<ContigRange<'_>, ContigError> {
        let deadline = request.budget.start();
        let (first, frames) = (range.start, range.end.0.saturating_sub(range.start.0));
        if frames == 0 || u64::from(range.end.0) > self.capacity().0 {
            return Err(ContigError::Range { first, frames: FrameCount(frames.into()) });
        }
        if self.is_poisoned() {
            return Err(ContigError::Poisoned);
        }
        self.check_movable(first, frames, deadline)?;
        // What was taken of a range that cannot be had in time is given back within the budget, too.
        let deadline = if frames > PAGEBLOCK_FRAMES { deadline.third() } else { deadline };
        let blocks = first.block().0..range.end.plus(PAGEBLOCK_FRAMES - 1).block().0;
        self.bring_online(blocks.end, deadline)?;
        let isolated = IsolatedBlocks::new(self, blocks, deadline)?;
        let mut capture = ContigCapture::begin(self, first, frames)?;
        let result = capture.acquire(request.mode, deadline);
        add(&self.events.contig_moved, capture.moved());
        // What is not kept goes back while nobody can take it, and merges when the pageblocks are given back.
        match result {
            Ok(()) => capture.keep(),
            Err(_) => drop(capture),
        }
        drop(isolated);
        result?;
        Ok(ContigRange { zone: self, first, frames })
    }

    /// Takes some range of so many frames: out of the pageblocks set aside, if it fits there, else where the least has to be moved.
    ///
    /// The search reads what is known about each pageblock, and the frames of those in use only. It ends where enough ranges need no move.
    ///
    /// A range of more than a pageblock begins where a pageblock does, a shorter one at a multiple of the next power of two.
    ///
    /// Locking: as [`Zone::alloc_contig_range`].
    ///
    /// # Errors
    /// [`ContigError`]: the last one, if several ranges were tried.
    pub fn alloc_contig_frames(
        &self,
        count: FrameCount,
        request: ContigRequest,
    ) -> Result<ContigRange<'_>, ContigError> {
        let fits = u32::try_from(count.0).ok().filter(|_| count.0 > 0 && count <= self.capacity());
        let frames = fits.ok_or(ContigError::Range { first: Pfn(0), frames: count })?;
        let deadline = request.budget.start();
        let mut last = ContigError::NoRange;
        for first in ranges::best(self, frames, deadline)? {
            if deadline.has_passed() {
                return Err(ContigError::OutOfTime);
            }
            let request = ContigRequest { budget: deadline.remaining(), ..request };
            last = match self.alloc_contig_range(first..first.plus(frames), request) {
                Ok(contig) => return Ok(contig),
                Err(last @ (ContigError::Limit | ContigError::Poisoned)) => return Err(last),
                Err(error) => error,
            };
        }
        Err(last)
    }

    /// Looks for what would be in the way in the end, before anything is moved. A frame handed out just now may have an owner in a moment.
    fn check_movable(
        &self,
        first: Pfn,
        frames: u32,
        deadline: Deadline,
    ) -> Result<(), ContigError> {
        for (start, end) in capture::pageblock_parts(first, frames) {
            if deadline.has_passed() {
                return Err(ContigError::OutOfTime);
            }
            let mut found = capture::first_unmovable(self, start, end);
            for spins in 0..3 {
                let Some(pfn) = found else { break };
                sync::relax(spins * 64);
                found = capture::first_unmovable(self, pfn, end);
            }
            found.map_or(Ok(()), |pfn| Err(ContigError::Unmovable { pfn }))?;
        }
        Ok(())
    }

    /// Moves the high-water mark up to `end` pageblocks, in short turns with the zone lock.
    fn bring_online(&self, end: u32, deadline: Deadline) -> Result<(), ContigError> {
        loop {
            let mut buddy = self.buddy.lock_unpoisoned().ok_or(ContigError::Poisoned)?;
            let turn = end.min(buddy.online.saturating_add(ONLINE_BATCH));
            buddy.bring_online(&self.tables, turn);
            drop(buddy);
            if turn == end {
                return Ok(());
            }
            if deadline.has_passed() {
                return Err(ContigError::OutOfTime);
            }
        }
    }
}

/// Pageblocks out of allocation. Dropping it gives them back, as what they were: those without memory have none again.
struct IsolatedBlocks<'z> {
    zone: &'z Zone,
    blocks: Range<u32>,
    /// Those that had no memory before.
    fresh: Vec<BlockIndex>,
}

impl<'z> IsolatedBlocks<'z> {
    fn new(zone: &'z Zone, blocks: Range<u32>, deadline: Deadline) -> Result<Self, ContigError> {
        let mut isolated = Self { zone, blocks: blocks.start..blocks.start, fresh: Vec::new() };
        for block in blocks.map(BlockIndex) {
            if deadline.has_passed() {
                return Err(ContigError::OutOfTime);
            }
            let mut buddy = zone.buddy.lock_unpoisoned().ok_or(ContigError::Poisoned)?;
            let was = zone.tables.blocks.state(block).commit_state;
            // Isolated by somebody else, or its memory on the way out: both are over soon, and not ours to wait for.
            buddy.isolate(&zone.tables, block).map_err(|reason| match reason {
                IsolateError::Limit => ContigError::Limit,
                IsolateError::Isolated | IsolateError::Releasing => {
                    ContigError::Busy { pfn: block.first() }
                }
            })?;
            drop(buddy);
            isolated.blocks.end = block.0 + 1;
            if was != CommitState::Committed {
                isolated.fresh.push(block);
            }
        }
        Ok(isolated)
    }
}

impl Drop for IsolatedBlocks<'_> {
    fn drop(&mut self) {
        for block in self.blocks.clone().map(BlockIndex) {
            if let Some(mut buddy) = self.zone.buddy.lock_unpoisoned() {
                buddy.end_isolation(&self.zone.tables, block);
            }
        }
        self.fresh.iter().for_each(|&block| self.zone.release_if_idle(block));
        // What became free while it was isolated was in nobody's count of free pageblocks.
        self.zone.release_batch();
    }
}

impl From<CaptureError> for ContigError {
    fn from(error: CaptureError) -> Self {
        match error {
            CaptureError::Limit => Self::Limit,
            CaptureError::Poisoned => Self::Poisoned,
            CaptureError::NoTargets => Self::NoTargets,
            CaptureError::OutOfTime => Self::OutOfTime,
            CaptureError::Busy(pfn) => Self::Busy { pfn },
            CaptureError::Unmovable(pfn) => Self::Unmovable { pfn },
        }
    }
}
