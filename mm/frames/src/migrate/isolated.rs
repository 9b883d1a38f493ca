//! Frames taken aside, and the page lock.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{Movability, MovableOps, TargetCharge};
use crate::descriptor::Put;
use crate::lru::{Lru, LruState};
use crate::state::{Kind, OwnerId, State};
use crate::units::{Order, Pfn};
use crate::zone::Zone;

/// A frame taken aside from its owner, with a reference of its own. Dropping it puts it back.
///
/// Never on two lists: it is a value, and there is one for each isolated frame.
#[derive(Debug)]
#[must_use = "dropping an isolated frame puts it back"]
pub struct Isolated<'z> {
    zone: &'z Zone,
    pfn: Pfn,
    /// Where on an LRU list it was; `None` for a frame of another kind.
    place: Option<LruState>,
}

/// A frame whose page lock is held, as the callbacks of [`MovableOps`] get it. Dropping it unlocks.
#[derive(Debug)]
pub struct LockedFrame<'z> {
    zone: &'z Zone,
    pfn: Pfn,
    place: Option<LruState>,
    /// How the target is charged that took its place. Noted here and not in the owner's answer, which is lost when the owner panics after that.
    committed_charge: Cell<Option<TargetCharge>>,
}

/// An owner broke when it was asked for its lists, or showed those of another one.
pub(super) struct LruMismatch;

impl Zone {
    /// Takes a movable frame aside; `None` when it is free, not movable, locked, isolated already, or when its owner does not want to.
    ///
    /// Locking: tries the page lock. Call it with no lock of the zone or of an owner held.
    #[must_use]
    pub fn isolate(&self, pfn: Pfn) -> Option<Isolated<'_>> {
        // A look without any lock first: a frame that is not movable may be in the middle of being set up, and is left alone (S-05).
        let known = self.movability == Movability::On && u64::from(pfn.0) < self.capacity().0;
        if !known || !can_be_isolated(self.tables.frames.state(pfn)) {
            return None;
        }
        // One step: the look again, the reference and the page lock. What was true a moment ago may be another frame by now (R-102, S-04, S-06).
        let before = self.tables.frames.update(pfn, |state| {
            if can_be_isolated(state) { state.with_reference().map(State::locked) } else { None }
        })?;
        let attempt = IsolationAttempt::new(self, pfn);
        let owner = before.owner()?;
        let ops = self.registry.ops(owner)?;
        let lists = self.lists_of(owner, &*ops).ok()?;
        let place = match lists {
            // another reference than the owner's pins a page on a list; moving it would leave that holder with the old frame.
            Some(_) if before.references() > 1 => return None,
            Some(lru) => Some(lru.isolate(pfn)?),
            None => None,
        };
        if attempt.owner_agrees(&*ops) {
            return attempt.isolate(place);
        }
        // Before the page lock goes: until then nobody else can isolate it.
        if let (Some(lru), Some(place)) = (lists, place) {
            lru.put_back(pfn, place);
        }
        None
    }

    /// The lists an owner says its frames are on, if any.
    pub(super) fn lists_of<'o>(
        &self,
        owner: OwnerId,
        ops: &'o dyn MovableOps,
    ) -> Result<Option<&'o Lru>, LruMismatch> {
        match catch_unwind(AssertUnwindSafe(|| ops.lru())) {
            Ok(None) => Ok(None),
            Ok(Some(lru)) if lru.is_of(self, owner) => Ok(Some(lru)),
            // A callback that panics is one that failed; and lists of another owner would get a frame that is not theirs.
            Ok(Some(_)) | Err(_) => Err(LruMismatch),
        }
    }

    /// Whether a frame in this state can be moved by somebody: it has an owner, and frames do move here.
    pub(crate) fn can_move(&self, state: State) -> bool {
        self.movability == Movability::On && state.owner().is_some()
    }

    /// Frames that are isolated just now.
    #[must_use]
    pub fn isolated(&self) -> u64 {
        self.events.isolated()
    }
}

/// In use as a single frame, movable, and in nobody's hands. Movable is looked at first, though here no order is wrong.
fn can_be_isolated(state: State) -> bool {
    let movable = state.kind() == Some(Kind::Used)
        && state.order() == Some(Order::SINGLE)
        && state.owner().is_some();
    movable && !state.is_isolated() && !state.is_locked()
}

/// A frame with a reference and its page lock, whose owner has not said yes yet. Dropping it undoes both.
struct IsolationAttempt<'z> {
    zone: &'z Zone,
    pfn: Pfn,
    locked: Option<LockedFrame<'z>>,
}

impl<'z> IsolationAttempt<'z> {
    fn new(zone: &'z Zone, pfn: Pfn) -> Self {
        Self { zone, pfn, locked: Some(LockedFrame::new(zone, pfn, None)) }
    }

    fn owner_agrees(&self, ops: &dyn MovableOps) -> bool {
        let asked = self
            .locked
            .as_ref()
            .map(|locked| catch_unwind(AssertUnwindSafe(|| ops.isolate(locked))));
        matches!(asked, Some(Ok(true)))
    }

    /// Marks the frame, unless its owner let go of it since, or put it on a list again.
    fn isolate(self, place: Option<LruState>) -> Option<Isolated<'z>> {
        let (zone, pfn) = (self.zone, self.pfn);
        // The mark takes the lock's place, in one step.
        let ours = |state: &State| state.owner().is_some() && state.lru_state() == LruState::Off;
        zone.tables.frames.update(pfn, |state| {
            Some(state).filter(ours).map(|state| state.isolated().unlocked())
        })?;
        // Lock and reference are the isolation's now.
        std::mem::forget(self);
        zone.events.isolate();
        Some(Isolated { zone, pfn, place })
    }
}

impl Drop for IsolationAttempt<'_> {
    fn drop(&mut self) {
        self.locked = None;
        self.zone.put_migrated(self.pfn, TargetCharge::Charged);
    }
}

impl<'z> Isolated<'z> {
    /// Its number.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    pub(crate) fn zone(&self) -> &'z Zone {
        self.zone
    }

    /// Whether its owner still has it, or let go of it since.
    #[must_use]
    pub fn has_owner(&self) -> bool {
        self.is_movable()
    }

    /// Whether the owner still has it.
    pub(crate) fn is_movable(&self) -> bool {
        self.zone.tables.frames.state(self.pfn).owner().is_some()
    }

    /// What to call about it; `None` when the owner let go of it, or is gone.
    pub(crate) fn ops(&self) -> Option<(OwnerId, Arc<dyn MovableOps>)> {
        let owner = self.zone.tables.frames.state(self.pfn).owner()?;
        Some((owner, self.zone.registry.ops(owner)?))
    }

    /// Takes the page lock. Nobody else can have it: only what is not isolated can be locked, and only what is not locked can be isolated.
    pub(crate) fn lock(&self) -> LockedFrame<'z> {
        let before = self.zone.tables.frames.update(self.pfn, |state| Some(state.locked()));
        debug_assert!(
            before.is_some_and(|state| !state.is_locked()),
            "{} is locked by two",
            self.pfn
        );
        LockedFrame::new(self.zone, self.pfn, self.place)
    }

    /// Ends the isolation of a frame that needs no putting back: its owner let go of it, or it was migrated away. Its number comes back when nobody else has
    /// it: it is in the state "cached" then, and the caller's to free.
    pub(crate) fn end_isolation(self) -> Option<Pfn> {
        let (zone, pfn) = (self.zone, self.pfn);
        std::mem::forget(self);
        zone.tables.frames.update(pfn, |state| Some(state.not_isolated()));
        zone.events.end_isolation();
        match zone.tables.frames.put(pfn) {
            Ok(Put::Shared) => None,
            Ok(Put::Last(_)) => {
                zone.tables.frames.clear_private(pfn);
                Some(pfn)
            }
            // Already unwinding: a second panic would abort, and the frame is merely lost.
            Err(_) if std::thread::panicking() => None,
            Err(error) => panic!("{error}"),
        }
    }
}

impl Drop for Isolated<'_> {
    /// Puts the frame back: the owner is told only if it still has it (R-063, S-10, S-11).
    fn drop(&mut self) {
        let locked = self.lock();
        // Movable first, isolated second: a frame its owner let go of is still marked as isolated, and is nobody's to put back.
        if let Some((owner, ops)) = self.ops() {
            // The frame goes back whatever the callback does.
            let _ = catch_unwind(AssertUnwindSafe(|| ops.putback(&locked)));
            if let (Ok(Some(lru)), Some(place)) = (self.zone.lists_of(owner, &*ops), self.place) {
                lru.put_back(self.pfn, place);
            }
        }
        drop(locked);
        self.zone.tables.frames.update(self.pfn, |state| Some(state.not_isolated()));
        self.zone.events.end_isolation();
        self.zone.put_migrated(self.pfn, TargetCharge::Charged);
    }
}

impl<'z> LockedFrame<'z> {
    fn new(zone: &'z Zone, pfn: Pfn, place: Option<LruState>) -> Self {
        Self { zone, pfn, place, committed_charge: Cell::new(None) }
    }

    /// Notes that a target has taken its place.
    pub(super) fn note_committed(&self, charge: TargetCharge) {
        self.committed_charge.set(Some(charge));
    }

    /// How the target is charged that took its place while it was locked.
    pub(super) fn committed_charge(&self) -> Option<TargetCharge> {
        self.committed_charge.get()
    }

    /// Its number.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// What the owner called it when it adopted it, and the position it noted with that.
    #[must_use]
    pub fn private(&self) -> Option<(u32, u8)> {
        self.zone.tables.frames.private(self.pfn)
    }

    /// Where on an LRU list it was when it was isolated.
    pub(crate) fn lru_state(&self) -> Option<LruState> {
        self.place
    }

    pub(crate) fn zone(&self) -> &'z Zone {
        self.zone
    }
}

impl Drop for LockedFrame<'_> {
    fn drop(&mut self) {
        self.zone.tables.frames.update(self.pfn, |state| Some(state.unlocked()));
    }
}
