//! Contiguous allocation: clears a range of frames and allocates it as a whole, for callers that
//! need neighbouring frames.
//!
//! ```text
//!  1. isolate the pageblocks of the range    frames that are or become free there stay unallocated
//!  2. reserve room below the limit           and drain all per-CPU lists
//!  3. migrate movable frames out             to frames elsewhere, and keep the old ones
//!  4. hand out the whole range               or free what was taken and restore the pageblocks
//! ```
//! A range need not begin or end at a pageblock boundary, and may include pageblocks that have no
//! memory.

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

/// The most pageblocks brought online in one turn with the zone lock.
const ONLINE_BATCH: u32 = 512;

/// How hard a contiguous allocation may try.
#[derive(Clone, Copy, Debug)]
pub struct ContigRequest {
    /// How hard migration may try.
    pub mode: MigrateMode,
    /// How long it may take. The deadline is checked several times for each pageblock that has to
    /// be cleared. A range of several pageblocks must be captured within a third of it: the rest
    /// is for freeing what was taken.
    pub budget: Budget,
}

impl Default for ContigRequest {
    fn default() -> Self {
        Self { mode: MigrateMode::Sync, budget: Budget::unlimited() }
    }
}

/// Why a range could not be allocated. The zone is unchanged, except that movable frames may have
/// moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ContigError {
    /// The range is empty, or part of it is outside of the zone.
    #[error("{frames} from {first} on are not a range of the zone")]
    Range {
        /// The first frame.
        first: Pfn,
        /// The number of frames.
        frames: FrameCount,
    },
    /// Fewer frames than requested are left below the zone's limit.
    #[error("the zone's limit is reached")]
    Limit,
    /// A frame in the range cannot move now: its owner uses it, or another request has isolated
    /// its pageblock.
    #[error("{pfn} is busy")]
    Busy {
        /// The frame.
        pfn: Pfn,
    },
    /// A frame in the range has no owner that could move it.
    #[error("{pfn} cannot be moved")]
    Unmovable {
        /// The frame.
        pfn: Pfn,
    },
    /// No free frame is left to move the content of the range to.
    #[error("no free frame is left to move the content of the range to")]
    NoTargets,
    /// A panic interrupted a change of the zone's free lists.
    #[error("the zone is poisoned: a panic interrupted a change of its free lists")]
    Poisoned,
    /// The budget ran out.
    #[error("the budget ran out before the range was cleared")]
    OutOfTime,
    /// Every range of this size has a frame that cannot be moved.
    #[error("every range of this size has a frame that cannot be moved")]
    NoRange,
}

/// Neighbouring frames that belong to the caller. Dropping it frees them. For their bytes see
/// [`Frame`].
#[derive(Debug)]
#[must_use = "dropping it frees the frames"]
pub struct ContigRange<'z> {
    zone: &'z Zone,
    first: Pfn,
    frames: u32,
}

impl<'z> ContigRange<'z> {
    /// Returns the first frame.
    #[must_use]
    pub fn first(&self) -> Pfn {
        self.first
    }

    /// Returns the number of frames.
    #[must_use]
    pub fn frames(&self) -> FrameCount {
        FrameCount(self.frames.into())
    }

    /// Returns the frames one by one, ascending.
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
    /// Allocates exactly these frames. Frames in use are moved elsewhere if their owners can.
    ///
    /// Locking: each per-CPU list in turn, and the zone lock in short turns. Call it with no lock
    /// of an owner held.
    ///
    /// # Errors
    /// [`ContigError`]. The zone is unchanged then, except that movable frames may have moved.
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
        // Fail early: nothing has moved yet.
        if self.is_poisoned() {
            return Err(ContigError::Poisoned);
        }
        self.check_movable(first, frames, deadline)?;
        // The rest of the budget is for freeing what was taken when the range cannot be captured
        // in time.
        let deadline = if frames > PAGEBLOCK_FRAMES { deadline.third() } else { deadline };
        // Isolate the pageblocks, then capture the frames.
        let blocks = first.block().0..range.end.plus(PAGEBLOCK_FRAMES - 1).block().0;
        self.bring_online(blocks.end, deadline)?;
        let isolated = IsolatedBlocks::new(self, blocks, deadline)?;
        let mut capture = ContigCapture::begin(self, first, frames)?;
        let result = capture.acquire(request.mode, deadline);
        add(&self.events.contig_moved, capture.moved());
        // On failure, free what was taken while the pageblocks are isolated: no other request can
        // take it, and it merges when the isolation ends.
        match result {
            Ok(()) => capture.keep(),
            Err(_) => drop(capture),
        }
        drop(isolated);
        result?;
        Ok(ContigRange { zone: self, first, frames })
    }

    /// Allocates some range of this many frames: in the CMA region if it fits there, else where
    /// the fewest frames have to move.
    ///
    /// The search reads the state of each pageblock, and frames only in pageblocks in use. It
    /// ends when enough ranges need no move.
    ///
    /// A range longer than a pageblock begins at a pageblock; a shorter one begins at a multiple
    /// of the next power of two.
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
            // Errors of one range do not rule out the next one, except the two that hold for the
            // zone.
            let request = ContigRequest { budget: deadline.remaining(), ..request };
            last = match self.alloc_contig_range(first..first.plus(frames), request) {
                Ok(contig) => return Ok(contig),
                Err(last @ (ContigError::Limit | ContigError::Poisoned)) => return Err(last),
                Err(error) => error,
            };
        }
        Err(last)
    }

    /// Checks for frames that cannot be moved before anything moves. A frame that was just
    /// allocated may get an owner soon, so the check is repeated a few times.
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

    /// Moves the high-water mark up to pageblock `end`, in short turns with the zone lock.
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

/// Isolated pageblocks. Dropping it ends the isolation and releases the memory of those that had
/// none.
struct IsolatedBlocks<'z> {
    zone: &'z Zone,
    blocks: Range<u32>,
    /// The pageblocks that had no memory before.
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
            // Another request isolates the pageblock, or its memory is being released. Both end
            // soon, but waiting for them is the caller's decision.
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
        // Pageblocks that became free while isolated were not counted as free.
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
