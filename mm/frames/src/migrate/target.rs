//! The frames that content moves to.

use super::ops::MigrateError;
use super::{Isolated, LockedFrame};
use crate::chain::Exclusive;
use crate::frame::Frame;
use crate::state::{OwnerId, State};
use crate::units::Pfn;
use crate::zone::Zone;

/// Supplies fresh frames to move content to. Called once for each attempt; migration frees a
/// target that it did not use.
pub trait Targets<'z> {
    /// Returns a frame for the content of `from`, or `None` when none is left: migration stops
    /// then.
    fn next(&mut self, from: Pfn) -> Option<Target<'z>>;

    /// Disposes of a frame whose content has moved, or whose owner released it. Frees it by
    /// default.
    fn free_source(&mut self, old: MigratedSource<'z>) {
        drop(old);
    }
}

impl<'z, F: FnMut(Pfn) -> Option<Frame<'z>>> Targets<'z> for F {
    fn next(&mut self, from: Pfn) -> Option<Target<'z>> {
        self(from).map(|frame| Target::new(frame, TargetCharge::Charged))
    }
}

/// A frame that was isolated and has no owner any more. Dropping it frees the frame.
#[derive(Debug)]
#[must_use = "dropping it frees the frame"]
pub struct MigratedSource<'z> {
    zone: &'z Zone,
    /// `None` once the isolation has ended.
    isolated: Option<Isolated<'z>>,
    charge: TargetCharge,
}

impl<'z> MigratedSource<'z> {
    pub(super) fn new(isolated: Isolated<'z>, charge: TargetCharge) -> Self {
        Self { zone: isolated.zone(), isolated: Some(isolated), charge }
    }

    /// Returns the frame's number. The value owns the frame until it is dropped.
    pub(crate) fn pfn(&self) -> Option<Pfn> {
        self.isolated.as_ref().map(Isolated::pfn)
    }

    /// Ends the isolation. Returns the frame if no other reference to it is left, for the caller
    /// to free or to keep, and how many targets then count against the limit.
    pub(crate) fn end_isolation(mut self) -> (Option<Pfn>, u64) {
        let pfn = self.isolated.take().and_then(Isolated::end_isolation);
        (pfn, self.charge.in_flight())
    }
}

impl Drop for MigratedSource<'_> {
    fn drop(&mut self) {
        let Some(isolated) = self.isolated.take() else { return };
        // One step: the new frame counts against the limit from the moment the old one is free.
        let arrived = self.charge.in_flight();
        self.zone.free_frames(isolated.end_isolation(), |buddy| buddy.in_flight -= arrived);
    }
}

/// A fresh frame without an owner. Dropping it frees the frame.
#[derive(Debug)]
#[must_use = "dropping a target frees it"]
pub struct Target<'z> {
    zone: &'z Zone,
    pfn: Pfn,
    charge: TargetCharge,
}

/// Whether a target already counts against the zone's limit. A target that replaces a frame which
/// is about to be freed does not, so that a full zone can be compacted. It counts from the moment
/// the old frame is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetCharge {
    Charged,
    InFlight,
}

impl TargetCharge {
    /// Returns how many frames of a target are in flight: not charged yet.
    pub(crate) fn in_flight(self) -> u64 {
        match self {
            Self::Charged => 0,
            Self::InFlight => 1,
        }
    }
}

/// Proof that a target replaced the old frame. Only committing a [`Target`] makes one.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "`migrate` returns it"]
pub struct Committed {
    to: Pfn,
}

impl<'z> Target<'z> {
    /// Makes a target of a frame that the caller chose. When others have references to it, it is
    /// not frozen, and [`Target::commit`] refuses it.
    pub(super) fn new(frame: Frame<'z>, charge: TargetCharge) -> Self {
        let (zone, pfn) = (frame.zone(), frame.into_pfn());
        let _ = zone.tables.frames.freeze(pfn);
        Self { zone, pfn, charge }
    }

    /// Makes a target of a frame that just came from the buddy lists.
    pub(crate) fn from_cached(zone: &'z Zone, pfn: Pfn, charge: TargetCharge) -> Self {
        zone.tables.frames.change(pfn, State::CACHED, State::FROZEN);
        Self { zone, pfn, charge }
    }

    /// Makes a target of a frame that was allocated frozen.
    pub(crate) fn from_frozen(zone: &'z Zone, pfn: Pfn, charge: TargetCharge) -> Self {
        Self { zone, pfn, charge }
    }

    /// Returns the frame's number.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// Returns the zone of the frame.
    pub(crate) fn zone(&self) -> &'z Zone {
        self.zone
    }

    /// Returns whether it is a frozen single frame of this zone: no other thread has it or can
    /// get it. Targets of the free scanner always are. A caller that chooses targets itself could
    /// offer any frame that it holds a reference to.
    pub(crate) fn is_fresh_in(&self, zone: &Zone) -> bool {
        std::ptr::eq(self.zone, zone) && zone.tables.frames.state(self.pfn) == State::FROZEN
    }

    /// Replaces `from`: the new frame gets its owner and its private value. The old frame is left
    /// to migration, which frees it. The owner writes the new number into its records in the same
    /// critical section.
    ///
    /// Frames of [`FrameChains`](crate::FrameChains) are replaced by
    /// [`FrameChains::migrate_frame`](crate::FrameChains::migrate_frame) instead, with the chain
    /// exclusively held, since the chain's record changes with them.
    ///
    /// # Errors
    /// [`MigrateError::Gone`] when the owner has released the old frame. [`MigrateError::Failed`]
    /// when the old frame is in a chain, or the target is not a frozen frame of the same zone.
    /// Nothing has changed then.
    pub fn commit(self, from: &LockedFrame<'_>) -> Result<Committed, MigrateError<'z>> {
        let zone = from.zone();
        let (owner, committed) =
            self.commit_if(from, |owner| !zone.registry.is_chain_owner(owner))?;
        if let Some(lru_state) = from.lru_state() {
            // In the owner's critical section, so it cannot have released the new frame yet. The
            // old one is on no list and stays off (S-37).
            let ops = zone.registry.ops(owner);
            if let Some(lru) =
                ops.as_deref().and_then(|ops| zone.lists_of(owner, ops).ok().flatten())
            {
                lru.put_back(committed.to, lru_state);
            }
        }
        Ok(committed)
    }

    /// Replaces a frame of the chain that is held. The caller enters the new frame into the
    /// chain's record and into the owner's LRU lists.
    pub(crate) fn commit_in_chain(
        self,
        from: &LockedFrame<'_>,
        held: &Exclusive<'_>,
    ) -> Result<Committed, MigrateError<'z>> {
        self.commit_if(from, |owner| owner == held.owner_id()).map(|(_, committed)| committed)
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
    /// Returns the frame to the buddy lists, where the free scanner finds it again. The OS is not
    /// called: owners drop targets with locks held.
    fn drop(&mut self) {
        self.zone.put_migrated(self.pfn, self.charge);
    }
}

impl Committed {
    /// Returns the new frame's number.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.to
    }
}
