//! Releases memory to the OS in whole pageblocks: splitting huge pages costs more than it frees.
//!
//! A few free pageblocks keep their memory, so that a workload whose size oscillates does not pay
//! for page faults each time. The highest go first. The OS is called with no lock held. A pageblock
//! that is being released serves no request; one that finds no other frame waits for it.
//!
//! A free only sets a flag, which
//! [`Zone::release_excess_if_due`](crate::Zone::release_excess_if_due) acts on once no lock is
//! held. Such a call releases no more than [`RELEASE_BATCH`] pageblocks: each is a system call, and
//! millions of frames can become free at once. A background thread
//! ([`Zone::release_excess`](crate::Zone::release_excess)), or later calls, release the rest: the
//! flag stays set until only the kept pageblocks are left.

use sync::atomic::Ordering::Relaxed;

use super::allocator::FrameAllocator;
use crate::buddy::Buddy;
use crate::budget::Deadline;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::units::{BlockIndex, FrameCount};

/// The most pageblocks that one call of `Zone::release_excess_if_due` releases.
pub const RELEASE_BATCH: u32 = 1;

/// The pageblocks in use for each free one that keeps its memory: at least
/// `ZoneConfig::keep_blocks` do.
pub const KEEP_ONE_IN: u32 = 64;

impl FrameAllocator {
    /// Releases at most one batch if the flag for excess free pageblocks is set.
    pub(super) fn release_excess_if_due(&self) {
        // Relaxed: only a flag, see `flag_excess`. The swap picks one of several threads.
        if self.excess.load(Relaxed) && self.excess.swap(false, Relaxed) {
            self.release_batch();
        }
    }

    /// Sets the flag for [`FrameAllocator::release_excess_if_due`] if there is excess.
    pub(super) fn flag_excess(&self, buddy: &Buddy) {
        let idle = self.tables.idle.members();
        if idle > u64::from(self.keep_blocks) && idle > u64::from(self.kept_blocks(buddy)) {
            // Relaxed: only a flag; `release_excess_if_due` checks the numbers under the lock.
            self.excess.store(true, Relaxed);
        }
    }

    /// Releases free pageblocks until only the kept ones are left or the deadline has passed.
    pub(crate) fn release_until(&self, deadline: Deadline) -> FrameCount {
        let mut released = FrameCount(0);
        while !deadline.has_passed() && self.release_excess() {
            released.0 += u64::from(PAGEBLOCK_FRAMES);
        }
        released
    }

    /// Releases at most one batch, and sets the flag for the next call if more are left.
    pub(crate) fn release_batch(&self) {
        if (0..RELEASE_BATCH).all(|_| self.release_excess()) {
            self.flag_excess(&self.buddy.lock());
        }
    }

    /// Releases the highest free pageblock if there is excess. Returns whether it did.
    fn release_excess(&self) -> bool {
        let has_excess =
            |buddy: &Buddy| self.tables.idle.members() > u64::from(self.kept_blocks(buddy));
        self.release_one(|buddy| if has_excess(buddy) { self.tables.idle.highest() } else { None })
    }

    /// Returns how many free pageblocks keep their memory. Ballooned frames are not in use by the
    /// workload, so they do not count.
    pub(crate) fn kept_blocks(&self, buddy: &Buddy) -> u32 {
        let ballooned = self.ballooned.load(Relaxed) / u64::from(PAGEBLOCK_FRAMES);
        let free = self.tables.idle.members();
        let used = u64::from(buddy.committed).saturating_sub(free + ballooned);
        // Fewer than the pageblocks of the zone, so it fits.
        self.keep_blocks.max((used / u64::from(KEEP_ONE_IN)) as u32)
    }

    /// Releases one pageblock if it is wholly free.
    pub(crate) fn release_if_idle(&self, block: BlockIndex) {
        self.release_one(|_| Some(block).filter(|&block| self.tables.idle.contains(block)));
    }

    /// Releases the free pageblock that `pick` chooses under the zone lock; `false` without one.
    pub(super) fn release_one(&self, pick: impl FnOnce(&Buddy) -> Option<BlockIndex>) -> bool {
        let Some(mut buddy) = self.buddy.lock_unpoisoned() else { return false };
        let Some(block) = pick(&buddy) else { return false };
        buddy.begin_release(&self.tables, block);
        drop(buddy);
        self.arena.discard(block);
        self.tables.frames.discard(block);
        if let Some(mut buddy) = self.buddy.lock_unpoisoned() {
            buddy.finish_release(&self.tables, block);
        }
        true
    }
}
