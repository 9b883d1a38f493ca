//! Releases memory to the OS in whole pageblocks: splitting huge pages costs more than it frees.
//!
//! With hysteresis: a few free pageblocks keep their memory, so that a workload whose size
//! oscillates does not pay for page faults each time. The highest pageblocks go first. The OS is
//! called with no lock held. A pageblock that is being released cannot be allocated from, and a
//! request that finds no other frame waits for it.
//!
//! # Which call releases
//! A free only sets a flag, which
//! [`Zone::release_excess_if_due`](crate::Zone::release_excess_if_due) acts on once no lock is
//! held.
//! No call that frees memory releases more than [`RELEASE_BATCH`] pageblocks: each is a system
//! call, and millions of frames can become free at once. A background thread
//! ([`Zone::release_excess`](crate::Zone::release_excess)), or later calls that free memory,
//! release the rest: the flag stays
//! set until only the kept pageblocks are left.

use sync::atomic::Ordering::Relaxed;

use super::allocator::FrameAllocator;
use crate::buddy::Buddy;
use crate::budget::Deadline;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::units::{BlockIndex, FrameCount};

/// The most pageblocks that one call of
/// [`Zone::release_excess_if_due`](crate::Zone::release_excess_if_due) releases.
pub const RELEASE_BATCH: u32 = 1;

/// The pageblocks in use for each free pageblock that keeps its memory. At least
/// [`ZoneConfig::keep_blocks`](crate::ZoneConfig::keep_blocks) free pageblocks keep theirs.
pub const KEEP_ONE_IN: u32 = 64;

/// How many free pageblocks keep their memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// As many as the next writes may need: see [`Zone::kept`](crate::Zone::kept).
    Some,
    /// None.
    Nothing,
}

impl FrameAllocator {
    /// Releases the memory of every free pageblock to the OS now.
    pub(super) fn trim(&self) {
        self.drain_lists_above(0);
        while self.release_one(Keep::Nothing) {}
    }

    /// Releases at most one batch if the flag for excess free pageblocks is set.
    pub(super) fn release_excess_if_due(&self) {
        // Relaxed: only a flag, see `flag_excess`. The swap picks one of several threads.
        if self.excess.load(Relaxed) && self.excess.swap(false, Relaxed) {
            self.release_batch();
        }
    }

    /// Sets the flag for [`FrameAllocator::release_excess_if_due`] if more pageblocks are free
    /// than are kept.
    pub(super) fn flag_excess(&self, buddy: &Buddy) {
        if buddy.idle > self.keep_blocks && buddy.idle > self.kept_blocks(buddy) {
            // Relaxed: only a flag; `release_excess_if_due` checks the numbers under the lock.
            self.excess.store(true, Relaxed);
        }
    }

    /// Releases free pageblocks until only the kept ones are left or the deadline has passed.
    pub(crate) fn release_until(&self, deadline: Deadline) -> FrameCount {
        let mut released = FrameCount(0);
        while !deadline.has_passed() && self.release_one(Keep::Some) {
            released.0 += u64::from(PAGEBLOCK_FRAMES);
        }
        released
    }

    /// Releases at most one batch. If more than the kept pageblocks are left, it sets the flag
    /// for the next call.
    pub(crate) fn release_batch(&self) {
        for _ in 0..RELEASE_BATCH {
            if !self.release_one(Keep::Some) {
                return;
            }
        }
        self.flag_excess(&self.buddy.lock());
    }

    /// Returns how many free pageblocks keep their memory. Ballooned frames are not in use by the
    /// workload, so they do not count.
    pub(crate) fn kept_blocks(&self, buddy: &Buddy) -> u32 {
        let ballooned = self.ballooned.frames().0 / u64::from(PAGEBLOCK_FRAMES);
        let used = u64::from(buddy.committed.saturating_sub(buddy.idle)).saturating_sub(ballooned);
        // Fewer than the pageblocks of the zone, so it fits.
        self.keep_blocks.max((used / u64::from(KEEP_ONE_IN)) as u32)
    }

    /// Releases one pageblock if it is wholly free.
    pub(crate) fn release_if_idle(&self, block: BlockIndex) {
        let Some(mut buddy) = self.buddy.lock_unpoisoned() else { return };
        if self.tables.idle.contains(block) {
            buddy.begin_release(&self.tables, block);
            drop(buddy);
            self.finish_release(block);
        }
    }

    /// Releases the highest free pageblock; returns `false` when no more than the kept ones are
    /// left.
    fn release_one(&self, keep: Keep) -> bool {
        let Some(mut buddy) = self.buddy.lock_unpoisoned() else { return false };
        let kept = if keep == Keep::Some { self.kept_blocks(&buddy) } else { 0 };
        if buddy.idle <= kept {
            return false;
        }
        let Some(block) = self.tables.idle.highest() else { return false };
        buddy.begin_release(&self.tables, block);
        drop(buddy);
        self.finish_release(block);
        true
    }

    /// Releases the memory of a pageblock that [`Buddy::begin_release`] took out of use.
    fn finish_release(&self, block: BlockIndex) {
        self.arena.discard(block);
        self.tables.frames.discard(block);
        if let Some(mut buddy) = self.buddy.lock_unpoisoned() {
            buddy.finish_release(&self.tables, block);
        }
    }
}
