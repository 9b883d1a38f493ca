//! The free scanner: takes the lowest free frames, a batch at a time.

use std::mem;

use crate::buddy::{Buddy, InFlight};
use crate::migrate::{MigratedSource, Targets};
use crate::units::{BlockIndex, Pfn};
use crate::zone::{Target, Zone, add};

/// The most frames isolated before they are migrated.
pub(super) const MAX_BATCH: usize = 32;

/// Free frames taken as targets. Dropping it frees those that were not used, each once.
#[derive(Debug)]
pub(super) struct FreeScanner<'z> {
    zone: &'z Zone,
    /// Taken and not used yet, lowest last.
    taken: Vec<Target<'z>>,
    /// Targets are in pageblocks below this one.
    pub(super) end: BlockIndex,
    /// Frames whose content has moved, to be freed together.
    migrated: Vec<Pfn>,
    /// Targets that were in flight and now count against the limit.
    arrived: InFlight,
}

impl<'z> FreeScanner<'z> {
    pub(super) fn new(zone: &'z Zone) -> Self {
        Self {
            zone,
            taken: Vec::with_capacity(MAX_BATCH),
            end: BlockIndex(0),
            migrated: Vec::with_capacity(MAX_BATCH),
            arrived: InFlight::default(),
        }
    }

    /// Frees the frames whose content has moved.
    pub(super) fn flush(&mut self) {
        if !self.arrived.is_empty() || !self.migrated.is_empty() {
            let arrived = mem::take(&mut self.arrived);
            let land = |buddy: &mut Buddy| buddy.ledger.land(arrived);
            self.zone.allocator().free_frames(self.migrated.drain(..), land);
        }
    }

    /// Takes the free frames of one pageblock in one step under the zone lock: a frame is either
    /// free or ours, never both (R-106, S-23, F1).
    fn refill(&mut self) {
        let allocator = self.zone.allocator();
        allocator.process_memory_failures();
        let mut frames = [Pfn(0); MAX_BATCH];
        let taken = allocator.with_buddy(|buddy, tables| {
            buddy.take_migration_targets(tables, self.end, &mut frames)
        });
        let mut in_flight = taken.unwrap_or_default();
        // At most as many as fit in `frames`.
        let count = in_flight.frames() as usize;
        add(&self.zone.events().compact_free_scanned, count as u64);
        let lowest_last = frames[..count].iter().rev();
        self.taken.extend(
            lowest_last.map(|&pfn| Target::from_cached(allocator, pfn, in_flight.split_one())),
        );
    }
}

impl<'z> Targets<'z> for FreeScanner<'z> {
    fn next(&mut self, from: Pfn) -> Option<Target<'z>> {
        let is_lower = |target: &Target<'_>| target.pfn().block() < from.block();
        if !self.taken.last().is_some_and(is_lower) {
            // They were taken when the migrate scanner was higher. Others may be free below it now.
            self.taken.clear();
            self.refill();
        }
        self.taken.pop().filter(is_lower)
    }

    fn free_source(&mut self, old: MigratedSource<'z>) {
        let (pfn, arrived) = old.end_isolation();
        self.migrated.extend(pfn);
        self.arrived.join(arrived);
    }
}

impl Drop for FreeScanner<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}
