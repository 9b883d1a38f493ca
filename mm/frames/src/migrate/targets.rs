//! Where migration gets its targets, and what becomes of the old frames.

use std::mem;

use super::isolated::Isolated;
use crate::buddy::InFlight;
use crate::units::Pfn;
use crate::zone::{Frame, Target};

/// Supplies fresh frames to move content to. Called once for each attempt; migration frees a
/// target that it did not use.
pub trait Targets<'z> {
    /// Returns a frame for the content of `from`, or `None` when none is left: migration stops
    /// then.
    fn next(&mut self, from: Pfn) -> Option<Target<'z>>;

    /// Disposes of a frame whose content has moved, or whose owner released it.
    fn free_source(&mut self, old: MigratedSource<'z>) {
        drop(old);
    }
}

impl<'z, F: FnMut(Pfn) -> Option<Frame<'z>>> Targets<'z> for F {
    fn next(&mut self, from: Pfn) -> Option<Target<'z>> {
        let frame = self(from)?;
        Some(Target::from_used(frame.zone().allocator(), frame.into_pfn()))
    }
}

/// A frame that was isolated and has no owner any more. Dropping it frees the frame.
#[derive(Debug)]
#[must_use = "dropping it frees the frame"]
pub struct MigratedSource<'z> {
    /// `None` once the isolation has ended.
    isolated: Option<Isolated<'z>>,
    arrived: InFlight,
}

impl<'z> MigratedSource<'z> {
    pub(super) fn new(isolated: Isolated<'z>, arrived: InFlight) -> Self {
        Self { isolated: Some(isolated), arrived }
    }

    pub(crate) fn pfn(&self) -> Option<Pfn> {
        self.isolated.as_ref().map(Isolated::pfn)
    }

    /// Ends the isolation. Returns the frame if no other reference to it is left, for the caller to
    /// free or keep, and what counts against the limit once it is freed.
    pub(crate) fn end_isolation(mut self) -> (Option<Pfn>, InFlight) {
        let pfn = self.isolated.take().and_then(Isolated::end_isolation);
        (pfn, mem::take(&mut self.arrived))
    }
}

impl Drop for MigratedSource<'_> {
    fn drop(&mut self) {
        let Some(isolated) = self.isolated.take() else { return };
        // One step: the new frame counts against the limit from the moment the old one is free.
        let (allocator, arrived) = (isolated.zone().allocator(), mem::take(&mut self.arrived));
        allocator.free_frames(isolated.end_isolation(), |buddy| buddy.ledger.land(arrived));
    }
}
