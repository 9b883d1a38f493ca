//! Frame compaction: moves frames out of high pageblocks into the free frames of low ones, so that
//! whole 2 MiB blocks become free: one frame in use keeps a pageblock from being released to the
//! OS. (*Object* compaction moves objects between zspages, so that frames become free.)
//!
//! Two scanners move towards each other (R-100):
//! ```text
//!  pageblock 0                                                     online mark
//!  |########|##.#####|###..###|....                 ...|#....#..|.#......|........|
//!            ^ free scanner: lowest free frame              migrate scanner ^
//!            -->                                                          <--
//! ```
//! The kernel's scanners run the other way round. Ours fill the bottom because the buddy allocator
//! does, and because the highest pageblocks are released to the OS first.
//!
//! A *pass* goes from the top until the scanners meet. When it runs out of its budget, the next
//! compaction with the same kind of goal continues it, so short slices get as far as a single
//! run. The free scanner needs no position: an index finds the lowest pageblock with a free
//! frame. A pageblock in which nothing could be isolated gets a skip hint; the hints are reset
//! after a whole pass without success.

mod request;
mod skip;
mod fragmentation;
mod costs;
mod capture;
mod ranges;
mod contig;
mod candidates;
mod direct;
mod free_scanner;
mod migrate_scanner;
mod pass;
mod proactive;

use std::ops::Range;

pub use contig::ContigRange;
pub use proactive::{ProactiveCompactor, ProactiveOutcome, Proactiveness};
pub use request::{
    CompactGoal, CompactOutcome, CompactRequest, ContigError, ContigRequest, FrameCompaction,
};

#[cfg(test)]
pub(crate) use capture::ContigCapture;
#[cfg(all(test, not(any(loom, shuttle, miri))))]
pub(crate) use {direct::capture_block, ranges::best};

use crate::units::{FrameCount, MigrateType, Order, Pfn};
use crate::zone::Zone;

impl Zone {
    /// Compacts frames. Owners and their readers continue meanwhile; a frame in use is skipped,
    /// not waited for.
    ///
    /// Locking: one compaction at a time; takes the zone lock briefly and repeatedly. Call it
    /// with no lock of an owner held.
    pub fn compact(&self, request: CompactRequest) -> FrameCompaction {
        pass::compact(self, request)
    }

    /// Makes a block of this order and takes it.
    pub(crate) fn compact_direct(
        &self,
        order: Order,
        migrate_type: MigrateType,
    ) -> Result<Pfn, CompactOutcome> {
        direct::compact_direct(self, order, migrate_type)
    }

    /// Returns the fragmentation score: the share of committed free frames outside of wholly free
    /// pageblocks. Pageblocks without memory do not count, so the score does not depend on past
    /// use. Units: percent.
    ///
    /// The score is 0 while less than a pageblock is fragmented, since none could be freed, or less
    /// than a 64th of the memory in use without the balloon: that is not worth the copies.
    ///
    /// Locking: takes the zone lock.
    #[must_use]
    pub fn fragmentation(&self) -> u8 {
        fragmentation::score(self)
    }

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
        contig::alloc_range(self, range, request)
    }

    /// Allocates some range of this many frames: in the CMA region if it fits there, else where
    /// the fewest frames have to move.
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
        contig::alloc_frames(self, count, request)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
