//! The free scanner: the lowest free frames, a few at a time.

use std::mem;

use super::BATCH;
use crate::events::add;
use crate::migrate::{Charge, Target, Targets, Vacated};
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
    vacated: Vec<Pfn>,
    /// Frames that were on the move and have arrived.
    arrived: u64,
}

impl<'z> FreeScanner<'z> {
    pub(super) fn new(zone: &'z Zone) -> Self {
        Self {
            zone,
            taken: Vec::with_capacity(BATCH),
            end: BlockIndex(0),
            vacated: Vec::with_capacity(BATCH),
            arrived: 0,
        }
    }

    /// Frames are given from pageblocks below this one only.
    pub(super) fn limit(&mut self, end: BlockIndex) {
        self.end = end;
    }

    /// Frees what was vacated.
    pub(super) fn flush(&mut self) {
        if self.arrived > 0 || !self.vacated.is_empty() {
            let arrived = mem::take(&mut self.arrived);
            self.zone.free_frames(self.vacated.drain(..), |buddy| buddy.moving -= arrived);
        }
    }

    /// Takes what one pageblock has, in one step under the zone lock: a frame is either free or ours, never both (R-106, S-23, F1).
    fn refill(&mut self) {
        self.zone.note_failures();
        let mut frames = [Pfn(0); BATCH];
        let count = self.zone.buddy.lock().take_targets(&self.zone.tables, self.end, &mut frames);
        add(&self.zone.events.free_scanned, count as u64);
        let targets = frames[..count]
            .iter()
            .rev()
            .map(|&pfn| Target::from_cached(self.zone, pfn, Charge::OnTheMove));
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

    fn vacated(&mut self, old: Vacated<'z>) {
        let (pfn, arrived) = old.retire();
        self.vacated.extend(pfn);
        self.arrived += arrived;
    }
}

impl Drop for FreeScanner<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}
