//! Where content moves to.

use super::ops::Refused;
use super::{Isolated, Locked};
use crate::frame::Frame;
use crate::state::State;
use crate::units::{Order, Pfn};
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
    pub(crate) fn new(frame: Frame<'z>, charge: Charge) -> Self {
        Self { zone: frame.zone(), pfn: frame.into_pfn(), charge }
    }

    /// Its number.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    pub(crate) fn zone(&self) -> &'z Zone {
        self.zone
    }

    /// Whether it is a single frame of this zone that nobody else has. The free scanner's are; whoever chooses targets himself could offer any frame
    /// he has a reference to.
    pub(super) fn is_fresh_in(&self, zone: &Zone) -> bool {
        std::ptr::eq(self.zone, zone) && zone.tables.frames.state(self.pfn) == State::used(Order::SINGLE)
    }

    /// Hands the place of `from` over: the new frame has its owner and name from here on, and the old one is left to migration, which frees it. The
    /// owner writes the new number into its records in the same critical section.
    ///
    /// # Errors
    /// [`Refused::Gone`] when the owner has let go of the old frame; nothing has changed.
    pub fn accept(self, from: &Locked<'_>) -> Result<Accepted, Refused<'z>> {
        let zone = from.zone();
        let Some(before) = zone.tables.frames.update(from.pfn(), |state| {
            state.owner()?;
            // The isolation's own reference stays, so this is never the last one.
            state.disowned().without_reference()
        }) else {
            return Err(Refused::Gone(self));
        };
        from.hand_over(self.charge);
        let to = self.into_pfn();
        if let Some((name, position)) = zone.tables.frames.name(from.pfn()) {
            zone.tables.frames.set_name(to, name, position);
        }
        zone.tables.frames.update(to, |state| before.owner().and_then(|owner| state.owned_by(owner)));
        if let Some(place) = from.place() {
            // In the owner's critical section, so it cannot have let go of the new frame yet. The old one is on no list and stays off (S-37).
            let ops = before.owner().and_then(|owner| zone.registry.ops(owner));
            if let Some(lru) = ops.as_ref().and_then(|ops| ops.lru()) {
                lru.put_back(to, place);
            }
        }
        Ok(Accepted { to })
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
