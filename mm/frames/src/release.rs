//! Memory goes back to the OS in whole pageblocks: breaking up huge pages costs more than it frees.
//!
//! With hysteresis: a few free pageblocks keep their memory, so that a workload that breathes does not pay for a page fault each time. The
//! highest ones go first. The OS is called without any lock; a pageblock on its way is nobody's, and those who find no other frame wait for it.
//!
//! # Who does it
//! A free leaves a reminder only ([`Zone::release_excess_if_due`] follows it once no lock is held), and no call that frees memory releases more than
//! [`RELEASE_BATCH`] pageblocks: each is a system call, and millions of frames can become free at once. The rest is released by a background thread
//! ([`Zone::release_excess`]), or by the next calls that free anything: the reminder stays until only the kept pageblocks are left.

use crate::buddy::Buddy;
use crate::budget::{Budget, Deadline};
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::units::{BlockIndex, FrameCount};
use crate::zone::Zone;

/// Pageblocks that one call of [`Zone::release_excess_if_due`] gives back, at most.
pub const RELEASE_BATCH: u32 = 1;

/// Free pageblocks keep their memory as long as they are no more than one for so many in use; [`ZoneConfig::keep_blocks`](crate::ZoneConfig::keep_blocks)
/// of them at least.
pub const KEEP_ONE_IN: u32 = 64;

/// How many free pageblocks may keep their memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// As many as the next writes may need: see [`Zone::kept`].
    Some,
    /// None.
    Nothing,
}

impl Zone {
    /// Gives the memory of every free pageblock back to the OS now.
    ///
    /// Locking: the per-CPU lists, one after the other, and the zone lock, in short turns.
    pub fn trim(&self) {
        self.drain_lists_above(0);
        while self.release_one(Keep::Nothing) {}
    }

    /// Gives free pageblocks back to the OS until only those to keep are left or the budget is spent; says how many frames went.
    ///
    /// For a thread in the background; [`Zone::release_excess_if_due`] is for whoever frees.
    ///
    /// Locking: the zone lock, in short turns; the OS is called without.
    pub fn release_excess(&self, budget: Budget) -> FrameCount {
        self.release_until(budget.start())
    }

    pub(crate) fn release_until(&self, deadline: Deadline) -> FrameCount {
        let mut released = FrameCount(0);
        while !deadline.has_passed() && self.release_one(Keep::Some) {
            released.0 += u64::from(PAGEBLOCK_FRAMES);
        }
        released
    }

    /// Releases a batch at most. What is left beyond the kept pageblocks is for the next call: the reminder says so.
    pub(crate) fn release_batch(&self) {
        for _ in 0..RELEASE_BATCH {
            if !self.release_one(Keep::Some) {
                return;
            }
        }
        self.flag_excess(&self.buddy.lock());
    }

    /// The most frames of free pageblocks that keep their memory for the next requests. [`Zone::trim`] leaves none.
    ///
    /// Locking: the zone lock.
    #[must_use]
    pub fn kept(&self) -> FrameCount {
        FrameCount(u64::from(self.kept_blocks(&self.buddy.lock())) * u64::from(PAGEBLOCK_FRAMES))
    }

    /// What a balloon has is no use that will breathe, so it does not count.
    pub(crate) fn kept_blocks(&self, buddy: &Buddy) -> u32 {
        let ballooned = self.ballooned.frames().0 / u64::from(PAGEBLOCK_FRAMES);
        let used = u64::from(buddy.committed.saturating_sub(buddy.idle)).saturating_sub(ballooned);
        // Fewer than the pageblocks of the zone, so it fits.
        self.keep_blocks.max((used / u64::from(KEEP_ONE_IN)) as u32)
    }

    /// Gives the memory of one pageblock back, if all of it is free.
    pub(crate) fn release_if_idle(&self, block: BlockIndex) {
        let Some(mut buddy) = self.buddy.lock_unpoisoned() else { return };
        if self.tables.idle.contains(block) {
            buddy.begin_release(&self.tables, block);
            drop(buddy);
            self.finish_release(block);
        }
    }

    /// Gives the highest free pageblock back; `false` when there are no more than are kept.
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

    fn finish_release(&self, block: BlockIndex) {
        self.arena.discard(block);
        self.tables.frames.discard(block);
        if let Some(mut buddy) = self.buddy.lock_unpoisoned() {
            buddy.finish_release(&self.tables, block);
        }
    }
}
