//! Contiguous allocation: clears a range of frames and allocates it as a whole, for callers that
//! need neighbouring frames.
//!
//! Its pageblocks are isolated first: frames that are or become free there stay unallocated. Then a
//! capture takes it. It need not begin or end at a pageblock boundary, nor have memory.

use std::mem;
use std::ops::Range;

use super::capture::{self, ContigCapture};
use super::ranges;
use super::request::{ContigError, ContigRequest, check_time};
use crate::buddy::{CommitState, IsolateError, pageblock_parts};
use crate::budget::Deadline;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::units::{BlockIndex, FrameCount, Pfn};
use crate::zone::{Frame, Zone};

/// The most pageblocks brought online in one turn with the zone lock.
const ONLINE_BATCH: u32 = 512;

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

/// Allocates exactly these frames: see [`Zone::alloc_contig_range`].
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
    let blocks = first.block().0..range.end.plus(PAGEBLOCK_FRAMES - 1).block().0;
    bring_online(zone, blocks.end, deadline)?;
    let _isolated = IsolatedBlocks::new(zone, blocks, deadline)?;
    // On failure the capture is dropped while the pageblocks are isolated: no other request
    // can take its frames, and they merge when the isolation ends.
    let mut capture = ContigCapture::begin(zone, first, frames)?;
    capture.acquire(request.mode, deadline)?;
    capture.keep();
    Ok(ContigRange { zone, first, frames })
}

/// Allocates some range of this many frames: see [`Zone::alloc_contig_frames`].
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
        check_time(deadline)?;
        let request = ContigRequest { budget: deadline.remaining(), ..request };
        last = match alloc_range(zone, first..first.plus(frames), request) {
            // Other errors of one range do not rule out the next one.
            Err(error @ (ContigError::Limit | ContigError::Poisoned)) => return Err(error),
            Err(error) => error,
            done => return done,
        };
    }
    Err(last)
}

/// Checks for frames that cannot be moved before anything moves: a few times, since a frame that
/// was just allocated may get an owner soon.
fn check_movable(
    zone: &Zone,
    first: Pfn,
    frames: u32,
    deadline: Deadline,
) -> Result<(), ContigError> {
    for (start, frames) in pageblock_parts(first, frames) {
        check_time(deadline)?;
        let end = start.plus(frames);
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
        check_time(deadline)?;
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
            check_time(deadline)?;
            let done = zone.allocator().with_buddy(|buddy, tables| {
                let was = tables.blocks.state(block).commit_state;
                buddy.isolate(tables, block).map(|()| was)
            });
            let was = done.ok_or(ContigError::Poisoned)?.map_err(|reason| match reason {
                IsolateError::Limit => ContigError::Limit,
                // This ends soon, but waiting for it is the caller's decision.
                IsolateError::Busy => ContigError::Busy { pfn: block.first() },
            })?;
            isolated.blocks.end = block.0 + 1;
            isolated.fresh.extend((was != CommitState::Committed).then_some(block));
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
