//! Allocation of a batch.
//!
//! ```text
//!  committed frames:  whole blocks -> blocks that compaction frees -> scattered frames
//!  untouched frames:  whole blocks -> single frames          (BalloonSource::FreeFrames only)
//! ```
//! No lock of the balloon is held during allocation (R-151).

use std::time::Duration;

use frames::{
    AllocError, Budget, CompactOutcome, CompactRequest, Frame, FrameCount, NoLocksHeld, Order,
    OwnedBlock, PAGEBLOCK_FRAMES, Reclaim,
};

use crate::MAX_BATCH;
use crate::balloon::{Balloon, BalloonSource, BalloonUnit};
use crate::report::Shortage;

/// The time a batch may spend on compaction, and so the delay of another target's effect.
const COMPACTION_TIMEOUT: Duration = Duration::from_millis(50);

pub(crate) const BLOCK_FRAMES: u64 = PAGEBLOCK_FRAMES as u64;

/// The number of compactions for whole blocks that are left for one target.
#[derive(Debug)]
pub(crate) struct CompactionAttempts(u8);

impl CompactionAttempts {
    /// The attempts of a target: two seconds, since a store in use always has more to compact.
    pub(crate) const ALL: Self = Self(40);
}

/// The free frames of a zone that a balloon may take.
#[derive(Clone, Copy, Debug)]
struct Available {
    frames: u64,
    /// Those of them that are committed.
    committed: u64,
}

/// Frames that belong to the calling thread alone.
#[derive(Debug, Default)]
pub(crate) struct FrameBatch<'z> {
    pub(crate) blocks: Vec<OwnedBlock>,
    pub(crate) frames: Vec<Frame<'z>>,
    /// How many more frames it may take.
    left: u64,
}

impl<'z> FrameBatch<'z> {
    /// Returns whether another block fits.
    fn wants_blocks(&self) -> bool {
        self.left >= BLOCK_FRAMES && self.ranges() < MAX_BATCH
    }

    /// Adds blocks until the batch is full or `next` has none.
    fn fill_blocks(&mut self, mut next: impl FnMut() -> Option<OwnedBlock>) {
        while self.wants_blocks() {
            let Some(block) = next() else { return };
            self.left -= BLOCK_FRAMES;
            self.blocks.push(block);
        }
    }

    /// Adds at most `max` single frames, until the batch is full or `next` has none.
    fn fill_frames(&mut self, max: u64, mut next: impl FnMut() -> Option<Frame<'z>>) {
        for _ in 0..max.min(self.left).min((MAX_BATCH - self.ranges()) as u64) {
            let Some(frame) = next() else { return };
            self.left -= 1;
            self.frames.push(frame);
        }
    }

    /// Returns the number of blocks and single frames: the ranges in a message.
    pub(crate) fn ranges(&self) -> usize {
        self.blocks.len() + self.frames.len()
    }

    /// Returns the number of frames, those of blocks included.
    pub(crate) fn frames(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK_FRAMES + self.frames.len() as u64
    }
}

impl Balloon {
    /// Allocates a batch of at most `missing` frames in the order above.
    ///
    /// An empty batch means that compaction can go on; the caller calls again.
    ///
    /// # Errors
    /// [`Shortage`] when there is nothing to allocate.
    pub(crate) fn allocate(
        &self,
        missing: FrameCount,
        attempts: &mut CompactionAttempts,
    ) -> Result<FrameBatch<'_>, Shortage> {
        let available = self.available_or_reclaim()?;
        let (blocks, movable) =
            (self.config.unit == BalloonUnit::BlocksFirst, self.owner.migrate_type());
        let mut batch =
            FrameBatch { left: missing.0.min(available.frames), ..FrameBatch::default() };
        // Whole committed blocks, then those that compaction can free.
        if blocks {
            batch.fill_blocks(|| self.zone.alloc_committed_block(movable));
            let may_compact = available.committed >= batch.frames() + BLOCK_FRAMES;
            if batch.wants_blocks() && may_compact && attempts.0 > 0 {
                self.compact_for_blocks(attempts);
                batch.fill_blocks(|| self.zone.alloc_committed_block(movable));
                if attempts.0 > 0 {
                    // Compaction can go on, if the caller finds the target still current.
                    return Ok(batch);
                }
            }
        }
        // Scattered frames, beyond those the store's next pages will use. Compaction may have
        // decommitted some, so they are counted again.
        let takes_untouched = self.config.source == BalloonSource::FreeFrames;
        let kept = if takes_untouched { BLOCK_FRAMES - 1 } else { 0 };
        let spare = self.available().committed.saturating_sub(kept);
        batch.fill_frames(spare, || self.zone.alloc_committed_frame(movable));
        let mut refused = None;
        if takes_untouched {
            let reclaim = || Reclaim::Allowed(NoLocksHeld::promise());
            if blocks {
                // There is no committed block left, not even by compaction: take untouched ones.
                batch.fill_blocks(|| {
                    self.zone.alloc_owned_block(Order::PAGEBLOCK, movable, reclaim()).ok()
                });
            }
            batch.fill_frames(u64::MAX, || {
                let committed = self.zone.alloc_committed_frame(movable);
                committed.or_else(|| {
                    let frame = self.zone.alloc_frame(movable, reclaim());
                    frame.map_err(|error| refused = Some(error)).ok()
                })
            });
        }
        match refused {
            _ if batch.ranges() > 0 => Ok(batch),
            Some(error) => Err(Shortage::Zone(error)),
            None => Err(Shortage::Memory),
        }
    }

    /// Compacts the zone for a bounded time, so that whole blocks of committed frames become free.
    /// The zone decommits blocks it does not keep, which gives the host memory as well.
    fn compact_for_blocks(&self, attempts: &mut CompactionAttempts) {
        let budget = Budget::within(COMPACTION_TIMEOUT);
        let report = self.zone.compact(CompactRequest { budget, ..CompactRequest::default() });
        let goes_on = report.outcome == CompactOutcome::OutOfTime && report.frames_moved > 0;
        attempts.0 = if goes_on { attempts.0 - 1 } else { 0 };
    }

    /// Returns the free frames of the source: committed ones, or all above the lowest watermark.
    fn available(&self) -> Available {
        let stats = self.zone.stats();
        let committed = stats.committed.0 - stats.in_use.0;
        let frames = match self.config.source {
            BalloonSource::CommittedFrames => committed,
            BalloonSource::FreeFrames => {
                let usable = stats.limit.map_or(stats.capacity, |limit| limit.min(stats.capacity));
                usable.0.saturating_sub(stats.in_use.0 + self.zone.watermarks().min.0)
            }
        };
        Available { frames, committed }
    }

    /// Returns the free frames, after asking the shrinkers if there are none.
    fn available_or_reclaim(&self) -> Result<Available, Shortage> {
        if self.zone.is_poisoned() {
            return Err(Shortage::Zone(AllocError::Poisoned));
        }
        let mut available = self.available();
        if available.frames == 0 {
            self.zone.shrink(FrameCount(MAX_BATCH as u64), &NoLocksHeld::promise());
            available = self.available();
        }
        match (available.frames, self.config.source) {
            (0, BalloonSource::CommittedFrames) => Err(Shortage::Memory),
            (0, BalloonSource::FreeFrames) => Err(Shortage::Reserve),
            _ => Ok(available),
        }
    }
}
