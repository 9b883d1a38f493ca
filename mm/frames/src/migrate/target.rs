//! Where content moves to.

use super::ops::Refused;
use super::{Isolated, Locked};
use crate::extent::Exclusive;
use crate::frame::Frame;
use crate::state::{OwnerId, State};
use crate::units::Pfn;
use crate::zone::Zone;

/// Gives migration fresh frames to move to. Asked once for each attempt; what is not used is given back by whoever took it.
pub trait Targets<'z> {
    /// A frame for the content of `from`, or `None` when there is none left: migration stops then.
    fn next(&mut self, from: Pfn) -> Option<Target<'z>>;

    /// What is done with a frame whose content is elsewhere now, or whose owner let go of it. It is freed, unless somebody waits for just this one.
    fn vacated(&mut self, old: Vacated<'z>) {
        drop(old);
    }
}

impl<'z, F: FnMut(Pfn) -> Option<Frame<'z>>> Targets<'z> for F {
    fn next(&mut self, from: Pfn) -> Option<Target<'z>> {
        self(from).map(|frame| Target::new(frame, Charge::Charged))
    }
}

/// A frame that was isolated and has no owner any more. Dropping it frees it.
#[derive(Debug)]
#[must_use = "dropping it frees the frame"]
pub struct Vacated<'z> {
    zone: &'z Zone,
    /// There until it is taken out.
    isolated: Option<Isolated<'z>>,
    charge: Charge,
}

impl<'z> Vacated<'z> {
    pub(super) fn new(isolated: Isolated<'z>, charge: Charge) -> Self {
        Self { zone: isolated.zone(), isolated: Some(isolated), charge }
    }

    /// Which frame it is; the value has it until it is dropped.
    pub(crate) fn pfn(&self) -> Option<Pfn> {
        self.isolated.as_ref().map(Isolated::pfn)
    }

    /// Ends the isolation. Returns the frame if nobody else has a reference to it, for the caller to free or to keep, and how many targets have to be
    /// counted against the limit once that is done.
    pub(crate) fn retire(mut self) -> (Option<Pfn>, u64) {
        let pfn = self.isolated.take().and_then(Isolated::retire);
        (pfn, self.charge.on_the_move())
    }
}

impl Drop for Vacated<'_> {
    fn drop(&mut self) {
        let Some(isolated) = self.isolated.take() else { return };
        // One step: the new frame counts from the moment on in which the old one is free.
        let arrived = self.charge.on_the_move();
        self.zone.free_frames(isolated.retire(), |buddy| buddy.moving -= arrived);
    }
}

/// A fresh frame that nobody else knows. Dropping it gives it back.
#[derive(Debug)]
#[must_use = "dropping a target gives it back"]
pub struct Target<'z> {
    zone: &'z Zone,
    pfn: Pfn,
    charge: Charge,
}

/// Whether a target counts against the zone's limit already. One that takes the place of a frame about to be freed does not, so that a full zone can
/// be compacted; it does from the moment the old frame is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    Charged,
    OnTheMove,
}

impl Charge {
    /// How many frames of one are on the move.
    pub(crate) fn on_the_move(self) -> u64 {
        match self {
            Self::Charged => 0,
            Self::OnTheMove => 1,
        }
    }
}

/// Proof that a target took the place of the old frame. Made by [`Target::accept`] only.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "it is the answer to `migrate`"]
pub struct Accepted {
    to: Pfn,
}

impl<'z> Target<'z> {
    /// A target of a frame that somebody chose. If others have references to it, it stays as it is, and no owner takes it.
    pub(super) fn new(frame: Frame<'z>, charge: Charge) -> Self {
        let (zone, pfn) = (frame.zone(), frame.into_pfn());
        let _ = zone.tables.frames.freeze(pfn);
        Self { zone, pfn, charge }
    }

    /// A target of a frame that just came from the buddy lists.
    pub(crate) fn from_cached(zone: &'z Zone, pfn: Pfn, charge: Charge) -> Self {
        zone.tables.frames.change(pfn, State::CACHED, State::FROZEN);
        Self { zone, pfn, charge }
    }

    /// A target of a frame that was allocated frozen.
    pub(crate) fn from_frozen(zone: &'z Zone, pfn: Pfn, charge: Charge) -> Self {
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
    /// Frames of [`Extents`](crate::Extents) are not handed over so: [`Extents::migrate_frame`](crate::Extents::migrate_frame) does it, with the extent
    /// held, since the extent's record of its frames changes with it.
    ///
    /// # Errors
    /// [`Refused::Gone`] when the owner has let go of the old frame. [`Refused::Failed`] when the old frame is in an extent, or the target is not a frame
    /// of the same zone that nobody else has. Nothing has changed then.
    pub fn accept(self, from: &Locked<'_>) -> Result<Accepted, Refused<'z>> {
        let zone = from.zone();
        let (owner, accepted) =
            self.take_place(from, |owner| !zone.registry.is_of_extents(owner))?;
        if let Some(place) = from.place() {
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

    /// The same for a frame of the extent that is held. Its caller enters the new frame into the extent, and into its owner's lists.
    pub(crate) fn accept_in_extent(
        self,
        from: &Locked<'_>,
        held: &Exclusive<'_>,
    ) -> Result<Accepted, Refused<'z>> {
        self.take_place(from, |owner| owner == held.owner_id()).map(|(_, accepted)| accepted)
    }

    fn take_place(
        self,
        from: &Locked<'_>,
        may: impl Fn(OwnerId) -> bool,
    ) -> Result<(OwnerId, Accepted), Refused<'z>> {
        let zone = from.zone();
        if !self.is_fresh_in(zone) {
            return Err(Refused::Failed(self));
        }
        let disowned = zone.tables.frames.update(from.pfn(), |state| {
            state.owner().filter(|&owner| may(owner))?;
            // The isolation's own reference stays, so this is never the last one.
            state.disowned().without_reference()
        });
        let Some(owner) = disowned.and_then(State::owner) else {
            let is_owned = zone.tables.frames.state(from.pfn()).owner().is_some();
            return Err(if is_owned { Refused::Failed(self) } else { Refused::Gone(self) });
        };
        from.hand_over(self.charge);
        let to = self.into_pfn();
        if let Some((name, position)) = zone.tables.frames.name(from.pfn()) {
            zone.tables.frames.set_name(to, name, position);
        }
        zone.tables.frames.change(to, State::FROZEN, State::published(owner));
        Ok((owner, Accepted { to }))
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
        self.zone.put_moved(self.pfn, self.charge);
    }
}

impl Accepted {
    /// The new frame's number.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.to
    }
}
