//! Memory goes back to the OS in whole pageblocks: breaking up huge pages costs more than it frees.
//!
//! With hysteresis: a few free pageblocks keep their memory, so that a workload that breathes does not pay for a page fault each time. The
//! highest ones go first. The OS is called without any lock; a pageblock on its way is nobody's, and those who find no other frame wait for it.

use crate::buddy::Buddy;
use crate::budget::{Budget, Deadline};
use crate::units::BlockIndex;
use crate::zone::Zone;

/// How many free pageblocks may keep their memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// This many, or a 64th of those in use when that is more.
    AtLeast(u32),
    /// None.
    Nothing,
}

impl Keep {
    pub(crate) fn blocks(self, buddy: &Buddy) -> u32 {
        match self {
            Self::AtLeast(blocks) => blocks.max((buddy.committed - buddy.idle) / 64),
            Self::Nothing => 0,
        }
    }
}

impl Zone {
    /// Gives the memory of every free pageblock back to the OS now.
    ///
    /// Locking: the per-CPU lists, one after the other, and the zone lock, in short turns.
    pub fn trim(&self) {
        self.drain_lists_above(0);
        self.release_excess(Keep::Nothing);
    }

    /// Gives the memory of one pageblock back, if all of it is free.
    pub(crate) fn release_if_idle(&self, block: BlockIndex) {
        let mut buddy = self.buddy.lock();
        if self.tables.idle.contains(block) {
            buddy.begin_release(&self.tables, block);
            drop(buddy);
            self.finish_release(block);
        }
    }

    fn finish_release(&self, block: BlockIndex) {
        self.arena.discard(block);
        self.tables.frames.discard(block);
        self.buddy.lock().finish_release(&self.tables, block);
    }

    pub(crate) fn keep(&self) -> Keep {
        Keep::AtLeast(self.keep_blocks)
    }

    /// Gives back free pageblocks, highest first, until only those to keep are left.
    pub(crate) fn release_excess(&self, keep: Keep) {
        self.release_excess_until(keep, Budget::unlimited().start());
    }

    /// The same, as long as there is time; [`Zone::settle`] does the rest.
    pub(crate) fn release_excess_until(&self, keep: Keep, deadline: Deadline) {
        while !deadline.has_passed() {
            let mut buddy = self.buddy.lock();
            if buddy.idle <= keep.blocks(&buddy) {
                return;
            }
            let Some(block) = self.tables.idle.highest() else { return };
            buddy.begin_release(&self.tables, block);
            drop(buddy);
            self.finish_release(block);
        }
    }
}
