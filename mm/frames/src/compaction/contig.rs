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

use std::mem;
use std::ops::Range;

use super::capture::{self, ContigCapture};
use super::contig_error::ContigError;
use super::ranges;
use crate::buddy::{CommitState, IsolateError};
use crate::budget::{Budget, Deadline};
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::units::{BlockIndex, FrameCount, Pfn};
use crate::zone::{Frame, MigrateMode, Zone};

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

/// Allocates these frames: see [`Zone::alloc_contig_range`].
pub(super) fn alloc_range(
    zone: &Zone,
    range: Range<Pfn>,
    request: ContigRequest,
) -> Result<ContigRange<'_>, ContigError> {
    let deadline = request.budget.start();
    let (first, frames) = (range.start, range.end.0.saturating_sub(range.start.0));
    if frames == 0 || u64::from(range.end.0) > zone.capacity().0 {
        return Err(ContigError::Range { first, frames: FrameCount(frames.into()) });
    }
    // Fail early: nothing has moved yet.
    if zone.is_poisoned() {
        return Err(ContigError::Poisoned);
    }
    check_movable(zone, first, frames, deadline)?;
    // The rest of the budget is for freeing what was taken when the range cannot be captured
    // in time.
    let deadline = if frames > PAGEBLOCK_FRAMES { deadline.third() } else { deadline };
    // Isolate the pageblocks, then capture the frames.
    let blocks = first.block().0..range.end.plus(PAGEBLOCK_FRAMES - 1).block().0;
    bring_online(zone, blocks.end, deadline)?;
    let isolated = IsolatedBlocks::new(zone, blocks, deadline)?;
    let mut capture = ContigCapture::begin(zone, first, frames)?;
    let result = capture.acquire(request.mode, deadline);
    // On failure, free what was taken while the pageblocks are isolated: no other request can
    // take it, and it merges when the isolation ends.
    match result {
        Ok(()) => capture.keep(),
        Err(_) => drop(capture),
    }
    drop(isolated);
    result?;
    Ok(ContigRange { zone, first, frames })
}

/// Allocates some range: see [`Zone::alloc_contig_frames`].
pub(super) fn alloc_frames(
    zone: &Zone,
    count: FrameCount,
    request: ContigRequest,
) -> Result<ContigRange<'_>, ContigError> {
    let fits = u32::try_from(count.0).ok().filter(|_| count.0 > 0 && count <= zone.capacity());
    let frames = fits.ok_or(ContigError::Range { first: Pfn(0), frames: count })?;
    let deadline = request.budget.start();
    let mut last = ContigError::NoRange;
    for first in ranges::best(zone, frames, deadline)? {
        if deadline.has_passed() {
            return Err(ContigError::OutOfTime);
        }
        // Errors of one range do not rule out the next one, except the two that hold for the
        // zone.
        let request = ContigRequest { budget: deadline.remaining(), ..request };
        last = match alloc_range(zone, first..first.plus(frames), request) {
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
    zone: &Zone,
    first: Pfn,
    frames: u32,
    deadline: Deadline,
) -> Result<(), ContigError> {
    for (start, end) in capture::pageblock_parts(first, frames) {
        if deadline.has_passed() {
            return Err(ContigError::OutOfTime);
        }
        let mut found = capture::first_unmovable(zone, start, end);
        for spins in 0..3 {
            let Some(pfn) = found else { break };
            sync::relax(spins * 64);
            found = capture::first_unmovable(zone, pfn, end);
        }
        found.map_or(Ok(()), |pfn| Err(ContigError::Unmovable { pfn }))?;
    }
    Ok(())
}

/// Moves the high-water mark up to pageblock `end`, in short turns with the zone lock.
fn bring_online(zone: &Zone, end: u32, deadline: Deadline) -> Result<(), ContigError> {
    loop {
        let turn = zone.allocator().with_buddy(|buddy, tables| {
            let turn = end.min(buddy.online.saturating_add(ONLINE_BATCH));
            buddy.bring_online(tables, turn);
            turn
        });
        let turn = turn.ok_or(ContigError::Poisoned)?;
        if turn == end {
            return Ok(());
        }
        if deadline.has_passed() {
            return Err(ContigError::OutOfTime);
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
            let done = zone.allocator().with_buddy(|buddy, tables| {
                let was = tables.blocks.state(block).commit_state;
                buddy.isolate(tables, block).map(|()| was)
            });
            // Another request isolates the pageblock, or its memory is being released. Both end
            // soon, but waiting for them is the caller's decision.
            let was = done.ok_or(ContigError::Poisoned)?.map_err(|reason| match reason {
                IsolateError::Limit => ContigError::Limit,
                IsolateError::Isolated | IsolateError::Releasing => {
                    ContigError::Busy { pfn: block.first() }
                }
            })?;
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
            self.zone.allocator().with_buddy(|buddy, tables| buddy.end_isolation(tables, block));
        }
        self.fresh.iter().for_each(|&block| self.zone.allocator().release_if_idle(block));
        // Pageblocks that became free while isolated were not counted as free.
        self.zone.allocator().release_batch();
    }
}
