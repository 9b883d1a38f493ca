//! Where a batch comes from.
//!
//! ```text
//!  memory the zone holds:  whole blocks  ->  blocks that compaction makes  ->  scattered frames
//!  room that holds none:   whole blocks  ->  single frames                                        (BalloonSource::FreeFrames only)
//! ```
//! All of it happens with no lock of the balloon held (R-151).

use std::time::Duration;

use frames::{
    AllocError, Budget, CompactOutcome, CompactRequest, Frame, FrameCount, NoLocksHeld, Order,
    OwnedBlock, PAGEBLOCK_FRAMES, Reclaim,
};

use crate::MAX_BATCH;
use crate::balloon::Balloon;
use crate::config::{BalloonSource, BalloonUnit};
use crate::outcome::Shortage;

/// How long a batch may look for whole blocks by compaction: whoever sets another target waits no longer than that.
const COMPACTION_TIMEOUT: Duration = Duration::from_millis(50);

pub(crate) const BLOCK_FRAMES: u64 = PAGEBLOCK_FRAMES as u64;

/// How often compaction may still look for whole blocks among free frames that lie scattered, for one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompactionAttempts {
    left: u8,
}

impl Default for CompactionAttempts {
    /// Two seconds: a store in use is never done.
    fn default() -> Self {
        Self { left: 40 }
    }
}

/// What of a zone a balloon may take.
#[derive(Clone, Copy, Debug)]
struct Available {
    frames: u64,
    /// Of these, frames the zone holds memory for.
    committed: u64,
}

/// Frames in nobody's hands but this thread's.
#[derive(Debug, Default)]
pub(crate) struct FrameBatch<'z> {
    pub(crate) blocks: Vec<OwnedBlock>,
    pub(crate) frames: Vec<Frame<'z>>,
    /// How many more it may take.
    left: u64,
}

impl<'z> FrameBatch<'z> {
    fn wants_blocks(&self) -> bool {
        self.left >= BLOCK_FRAMES && self.ranges() < MAX_BATCH
    }

    fn fill_blocks(&mut self, mut next: impl FnMut() -> Option<OwnedBlock>) {
        while self.wants_blocks() {
            let Some(block) = next() else { return };
            self.left -= BLOCK_FRAMES;
            self.blocks.push(block);
        }
    }

    fn fill_frames(&mut self, max: u64, mut next: impl FnMut() -> Option<Frame<'z>>) {
        for _ in 0..max.min(self.left).min((MAX_BATCH - self.ranges()) as u64) {
            let Some(frame) = next() else { return };
            self.left -= 1;
            self.frames.push(frame);
        }
    }

    /// Blocks and frames together: what the host is told.
    pub(crate) fn ranges(&self) -> usize {
        self.blocks.len() + self.frames.len()
    }

    pub(crate) fn frames(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK_FRAMES + self.frames.len() as u64
    }
}

impl Balloon {
    /// Takes what can be had at once of `missing` frames, nothing only if compaction has more to do: memory first, and room without memory only where that counts.
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
        if blocks {
            batch.fill_blocks(|| self.zone.alloc_committed_block(movable));
            if batch.wants_blocks()
                && available.committed >= batch.frames() + BLOCK_FRAMES
                && attempts.left > 0
            {
                self.compact_for_blocks(attempts);
                batch.fill_blocks(|| self.zone.alloc_committed_block(movable));
                if attempts.left > 0 {
                    // It goes on with what there is, after a look whether the target is still the same.
                    return Ok(batch);
                }
            }
        }
        // Scattered frames, where they are more than what is open for the store's next pages; compaction may have given others to the OS.
        let committed = self.available().committed;
        let spare = if self.config.source == BalloonSource::CommittedFrames {
            committed
        } else {
            committed.saturating_sub(BLOCK_FRAMES - 1)
        };
        batch.fill_frames(spare, || self.zone.alloc_committed_frame(movable));
        let mut refused = None;
        if self.config.source == BalloonSource::FreeFrames {
            if blocks {
                // No whole block can be had, not even by compaction: single frames it is.
                batch.fill_blocks(|| {
                    self.zone.alloc_owned_block(Order::PAGEBLOCK, movable, reclaim()).ok()
                });
            }
            let mut single = || {
                self.zone.alloc_committed_frame(movable).or_else(|| self.alloc_single(&mut refused))
            };
            batch.fill_frames(u64::MAX, &mut single);
        }
        match refused {
            _ if batch.ranges() > 0 => Ok(batch),
            Some(error) => Err(Shortage::Zone(error)),
            None => Err(Shortage::Memory),
        }
    }

    fn alloc_single(&self, refused: &mut Option<AllocError>) -> Option<Frame<'_>> {
        let frame = self.zone.alloc_frame(self.owner.migrate_type(), reclaim());
        frame.map_err(|error| *refused = Some(error)).ok()
    }

    /// Moves frames together for a moment, so that whole blocks of those the zone holds become free. What the zone does not keep goes to the OS at once,
    /// which serves the host as well.
    fn compact_for_blocks(&self, attempts: &mut CompactionAttempts) {
        let request = CompactRequest {
            budget: Budget::within(COMPACTION_TIMEOUT),
            ..CompactRequest::default()
        };
        let report = self.zone.compact(request);
        let goes_on = report.outcome == CompactOutcome::OutOfTime && report.frames_moved > 0;
        attempts.left = if goes_on { attempts.left - 1 } else { 0 };
    }

    /// What is free of the zone: above its lowest watermark, or of the memory it holds.
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

    /// The same, after asking others to make room if there is none.
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

/// Called with no lock of ours held.
fn reclaim() -> Reclaim {
    Reclaim::Allowed(NoLocksHeld::promise())
}
