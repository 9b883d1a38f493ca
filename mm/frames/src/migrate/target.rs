//! Where content moves to.

use super::ops::MigrateError;
use super::{Isolated, LockedFrame};
use crate::chain::Exclusive;
use crate::frame::Frame;
use crate::state::{OwnerId, State};
use crate::units::Pfn;
use crate::zone::Zone;

/// Gives migration fresh frames to move to. Asked once for each attempt; what is not used is given back by whoever took it.
pub trait Targets<'z> {
    /// A frame for the content of `from`, or `None` when there is none left: migration stops then.
    fn next(&mut self, from: Pfn) -> Option<Target<'z>>;

    /// What is done with a frame whose content is elsewhere now, or whose owner let go of it. It is freed, unless somebody waits for just this one.
    fn free_source(&mut self, old: MigratedSource<'z>) {
        drop(old);
    }
}

impl<'z, F: FnMut(Pfn) -> Option<Frame<'z>>> Targets<'z> for F {
    fn next(&mut self, from: Pfn) -> Option<Target<'z>> {
        self(from).map(|frame| Target::new(frame, TargetCharge::Charged))
    }
}

/// A frame that was isolated and has no owner any more. Dropping it frees it.
#[derive(Debug)]
#[must_use = "dropping it frees the frame"]
pub struct MigratedSource<'z> {
    zone: &'z Zone,
    /// There until it is taken out.
    isolated: Option<Isolated<'z>>,
    charge: TargetCharge,
}

impl<'z> MigratedSource<'z> {
    pub(super) fn new(isolated: Isolated<'z>, charge: TargetCharge) -> Self {
        Self { zone: isolated.zone(), isolated: Some(isolated), charge }
    }

    /// Which frame it is; the value has it until it is dropped.
    pub(crate) fn pfn(&self) -> Option<Pfn> {
        self.isolated.as_ref().map(Isolated::pfn)
    }

    /// Ends the isolation. Returns the frame if nobody else has a reference to it, for the caller to free or to keep, and how many targets have to be
    /// counted against the limit once that is done.
    pub(crate) fn end_isolation(mut self) -> (Option<Pfn>, u64) {
        let pfn = self.isolated.take().and_then(Isolated::end_isolation);
        (pfn, self.charge.in_flight())
    }
}

impl Drop for MigratedSource<'_> {
    fn drop(&mut self) {
        let Some(isolated) = self.isolated.take() else { return };
        // One step: the new frame counts from the moment on in which the old one is free.
        let arrived = self.charge.in_flight();
        self.zone.free_frames(isolated.end_isolation(), |buddy| buddy.in_flight -= arrived);
    }
}

/// A fresh frame that nobody else knows. Dropping it gives it back.
#[derive(Debug)]
#[must_use = "dropping a target gives it back"]
pub struct Target<'z> {
    zone: &'z Zone,
    pfn: Pfn,
    charge: TargetCharge,
}

/// Whether a target counts against the zone's limit already. One that takes the place of a frame about to be freed does not, so that a full zone can
/// be compacted; it does from the moment the old frame is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetCharge {
    Charged,
    InFlight,
}

impl TargetCharge {
    /// How many frames of one are on the move.
    pub(crate) fn in_flight(self) -> u64 {
        match self {
            Self::Charged => 0,
            Self::InFlight => 1,
        }
    }
}

/// Proof that a target took the place of the old frame. Made by [`Target::commit`] only.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "it is the answer to `migrate`"]
pub struct Committed {
    to: Pfn,
}

impl<'z> Target<'z> {
    /// A target of a frame that somebody chose. If others have references to it, it stays as it is, and no owner takes it.
    pub(super) fn new(frame: Frame<'z>, charge: TargetCharge) -> Self {
        let (zone, pfn) = (frame.zone(), frame.into_pfn());
        let _ = zone.tables.frames.freeze(pfn);
        Self { zone, pfn, charge }
    }

    /// A target of a frame that just came from the buddy lists.
    pub(crate) fn from_cached(zone: &'z Zone, pfn: Pfn, charge: TargetCharge) -> Self {
        zone.tables.frames.change(pfn, State::CACHED, State::FROZEN);
        Self { zone, pfn, charge }
    }

    /// A target of a frame that was allocated frozen.
    pub(crate) fn from_frozen(zone: &'z Zone, pfn: Pfn, charge: TargetCharge) -> Self {
        Self { zone, pfn, charge }
    }

    /// Its number.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    pub(crate) fn zone(&self) -> &'z Zone {
        self.zone
    }

    /// Whether it is a single frame of this zone that nobody else has or can get. The free scanner's are; a caller that chooses targets itself could
    /// offer any frame it has a reference to.
    pub(crate) fn is_fresh_in(&self, zone: &Zone) -> bool {
        std::ptr::eq(self.zone, zone) && zone.tables.frames.state(self.pfn) == State::FROZEN
    }

    /// Hands the place of `from` over: the new frame has its owner and name from here on, and the old one is left to migration, which frees it. The
    /// owner writes the new number into its records in the same critical section.
    ///
    /// Frames of [`FrameChains`](crate::FrameChains) are not handed over so: [`FrameChains::migrate_frame`](crate::FrameChains::migrate_frame) does it, with the chain
    /// held, since the chain's record of its frames changes with it.
    ///
    /// # Errors
    /// [`MigrateError::Gone`] when the owner has let go of the old frame. [`MigrateError::Failed`] when the old frame is in a chain, or the target is not a frame
    /// of the same zone that nobody else has. Nothing has changed then.
    pub fn commit(self, from: &LockedFrame<'_>) -> Result<Committed, MigrateError<'z>> {
        let zone = from.zone();
        let (owner, accepted) =
            self.commit_if(from, |owner| !zone.registry.is_chain_owner(owner))?;
        if let Some(place) = from.lru_state() {
            // In the owner's critical section, so it cannot have let go of the new frame yet. The old one is on no list and stays off (S-37).
            let ops = zone.registry.ops(owner);
            if let Some(lru) =
                ops.as_deref().and_then(|ops| zone.lists_of(owner, ops).ok().flatten())
            {
                lru.put_back(accepted.to, place);
            }
        }
        Ok(accepted)
    }

    /// The same for a frame of the chain that is held. Its caller enters the new frame into the chain, and into its owner's lists.
    pub(crate) fn commit_in_chain(
        self,
        from: &LockedFrame<'_>,
        held: &Exclusive<'_>,
    ) -> Result<Committed, MigrateError<'z>> {
        self.commit_if(from, |owner| owner == held.owner_id()).map(|(_, accepted)| accepted)
    }

    fn commit_if(
        self,
        from: &LockedFrame<'_>,
        may: impl Fn(OwnerId) -> bool,
    ) -> Result<(OwnerId, Committed), MigrateError<'z>> {
        let zone = from.zone();
        if !self.is_fresh_in(zone) {
            return Err(MigrateError::Failed(self));
        }
        let before = zone.tables.frames.update(from.pfn(), |state| {
            state.owner().filter(|&owner| may(owner))?;
            // The isolation's own reference stays, so this is never the last one.
            state.without_owner().without_reference()
        });
        let Some(owner) = before.and_then(State::owner) else {
            let is_owned = zone.tables.frames.state(from.pfn()).owner().is_some();
            return Err(if is_owned {
                MigrateError::Failed(self)
            } else {
                MigrateError::Gone(self)
            });
        };
        from.note_committed(self.charge);
        let to = self.into_pfn();
        if let Some((private, position)) = zone.tables.frames.private(from.pfn()) {
            zone.tables.frames.set_private(to, private, position);
        }
        zone.tables.frames.change(to, State::FROZEN, State::published(owner));
        Ok((owner, Committed { to }))
    }

    fn into_pfn(self) -> Pfn {
        let pfn = self.pfn;
        std::mem::forget(self);
        pfn
    }
}

impl Drop for Target<'_> {
    /// Back to the buddy lists, where the free scanner finds it again. The OS is not called, since owners drop targets with locks held.
    fn drop(&mut self) {
        self.zone.put_migrated(self.pfn, self.charge);
    }
}

impl Committed {
    /// The new frame's number.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.to
    }
}
