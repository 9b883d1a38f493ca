//! The free scanner: the lowest free frames, a few at a time.

use std::mem;

use super::MAX_BATCH;
use crate::events::add;
use crate::migrate::{MigratedSource, Target, TargetCharge, Targets};
use crate::units::{BlockIndex, Pfn};
use crate::zone::Zone;

/// Free frames taken for content to move to. What is not used goes back when this is dropped, each frame once.
#[derive(Debug)]
pub(super) struct FreeScanner<'z> {
    zone: &'z Zone,
    /// Taken and not used yet, lowest last.
    taken: Vec<Target<'z>>,
    end: BlockIndex,
    /// Frames whose content has moved, to be freed together.
    migrated: Vec<Pfn>,
    /// Frames that were on the move and have arrived.
    arrived: u64,
}

impl<'z> FreeScanner<'z> {
    pub(super) fn new(zone: &'z Zone) -> Self {
        Self {
            zone,
            taken: Vec::with_capacity(MAX_BATCH),
            end: BlockIndex(0),
            migrated: Vec::with_capacity(MAX_BATCH),
            arrived: 0,
        }
    }

    /// Frames are given from pageblocks below this one only.
    pub(super) fn limit(&mut self, end: BlockIndex) {
        self.end = end;
    }

    /// Frees what was vacated.
    pub(super) fn flush(&mut self) {
        if self.arrived > 0 || !self.migrated.is_empty() {
            let arrived = mem::take(&mut self.arrived);
            self.zone.free_frames(self.migrated.drain(..), |buddy| buddy.in_flight -= arrived);
        }
    }

    /// Takes what one pageblock has, in one step under the zone lock: a frame is either free or ours, never both (R-106, S-23, F1).
    fn refill(&mut self) {
        self.zone.process_memory_failures();
        let mut frames = [Pfn(0); MAX_BATCH];
        let count =
            self.zone.buddy.lock().take_migration_targets(&self.zone.tables, self.end, &mut frames);
        add(&self.zone.events.free_scanned, count as u64);
        let targets = frames[..count]
            .iter()
            .rev()
            .map(|&pfn| Target::from_cached(self.zone, pfn, TargetCharge::InFlight));
        self.taken.extend(targets);
    }
}

impl<'z> Targets<'z> for FreeScanner<'z> {
    fn next(&mut self, from: Pfn) -> Option<Target<'z>> {
        let is_lower = |target: &Target<'_>| target.pfn().block() < from.block();
        if !self.taken.last().is_some_and(is_lower) {
            // Taken when the migrate scanner was higher up, they are no lower than where it is now; but others may have become free since that are.
            self.taken.clear();
            self.refill();
        }
        self.taken.pop().filter(is_lower)
    }

    fn free_source(&mut self, old: MigratedSource<'z>) {
        let (pfn, arrived) = old.end_isolation();
        self.migrated.extend(pfn);
        self.arrived += arrived;
    }
}

impl Drop for FreeScanner<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}
