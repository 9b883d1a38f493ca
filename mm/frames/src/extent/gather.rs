//! Gathering: frames of extents move from high pageblocks down into free frames of low ones, so that whole pageblocks become free and go back to the OS.
//!
//! Freed objects leave free frames everywhere, and one frame in use keeps 2 MiB. The scan goes from the highest pageblock down; each frame
//! takes the lowest free frame there is, and the work is done when that is no lower than where the scan stands: the two have met. A frame
//! says itself which extent it belongs to; the extent is taken exclusively for the one copy, or passed over when somebody is inside. Handles do
//! not change, since they name extents and not frames.
//!
//! This is frame compaction in its plain form, for the frames of one owner of extents. The limit of the zone holds for it as for everybody: a zone that is
//! full to the last frame has no room to move anything.

use super::{ExtentId, Extents, Leaving};
use crate::units::BlockIndex;
use crate::{PAGEBLOCK_FRAMES, Pfn};

/// A gathering under way: the scan over the frames of an owner's extents. It moves one frame a [`Gather::step`].
#[derive(Debug)]
#[must_use = "nothing moves before step is called"]
pub struct Gather<'e> {
    extents: &'e Extents,
    block: BlockIndex,
    offset: u32,
}

/// What one step of a gathering came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "pending work is done by whoever leaves last, or never"]
pub enum Gathered {
    /// A frame moved down.
    Moved {
        /// The extent it belongs to.
        extent: ExtentId,
        /// What leaving the extent found: as for any other guard, pending work is now the caller's.
        leaving: Leaving,
    },
    /// A frame was passed over, because somebody was inside its extent.
    Busy,
}

impl Extents {
    /// Starts a gathering.
    ///
    /// Locking: empties the per-CPU lists, since nobody finds the free frames in there.
    pub fn gather(&self) -> Gather<'_> {
        self.zone.drain();
        Gather { extents: self, block: BlockIndex(self.zone.online_blocks()), offset: PAGEBLOCK_FRAMES }
    }
}

impl Gather<'_> {
    /// Moves the next frame that can move down; `None` when scan and free frames have met.
    ///
    /// Locking: one extent, tried; the zone lock for a moment. Call it with no lock held.
    pub fn step(&mut self) -> Option<Gathered> {
        loop {
            let pfn = self.next_in_use()?;
            // Read without a lock, so it is only a hint; `migrate` looks again inside the extent.
            let Some((extent, position)) = self.extents.zone.owner(pfn) else { continue };
            let target = self.extents.zone.alloc_lowest()?;
            if target.pfn().block() >= self.block {
                return None;
            }
            let Some(mut held) = self.extents.try_exclusive(extent) else { return Some(Gathered::Busy) };
            let moved = held.migrate(usize::from(position), pfn, target);
            let leaving = held.release();
            self.extents.zone.settle();
            if moved || leaving == Leaving::Pending {
                return Some(Gathered::Moved { extent, leaving });
            }
        }
    }

    fn next_in_use(&mut self) -> Option<Pfn> {
        loop {
            if self.offset == PAGEBLOCK_FRAMES {
                self.block = BlockIndex(self.block.0.checked_sub(1)?);
                self.offset = 0;
            }
            let pfn = self.block.first().plus(self.offset);
            self.offset += 1;
            if self.extents.zone.is_in_use(pfn) {
                return Some(pfn);
            }
        }
    }
}

impl Drop for Gather<'_> {
    /// Empties the per-CPU lists once more: the frames that were left are in there, and pin what was gathered for.
    fn drop(&mut self) {
        self.extents.zone.drain();
    }
}
