//! Isolated frames, and the page lock.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{Movability, MovableOps, TargetCharge};
use crate::descriptor::Put;
use crate::lru::{Lru, LruState};
use crate::state::{Kind, OwnerId, State};
use crate::units::{Order, Pfn};
use crate::zone::Zone;

/// A frame isolated from its owner, with a reference of its own. Dropping it puts it back.
///
/// It is never on two lists: there is one value for each isolated frame.
#[derive(Debug)]
#[must_use = "dropping an isolated frame puts it back"]
pub struct Isolated<'z> {
    zone: &'z Zone,
    pfn: Pfn,
    /// The LRU list it was on; `None` for a frame of an owner without lists.
    lru_state: Option<LruState>,
}

/// A frame whose page lock is held, as the callbacks of [`MovableOps`] get it. Dropping it
/// unlocks.
#[derive(Debug)]
pub struct LockedFrame<'z> {
    zone: &'z Zone,
    pfn: Pfn,
    lru_state: Option<LruState>,
    /// The charge of the target that replaced it. Recorded here because the owner's return value
    /// is lost when the owner panics after [`Target::commit`](super::Target::commit).
    committed_charge: Cell<Option<TargetCharge>>,
}

/// The error for an owner that panicked when asked for its lists, or returned another owner's.
pub(super) struct LruMismatch;

impl Zone {
    /// Isolates a movable frame. Returns `None` when it is free, not movable, locked or already
    /// isolated, or when its owner refuses.
    ///
    /// Locking: tries the page lock. Call it with no lock of the zone or of an owner held.
    #[must_use]
    pub fn isolate(&self, pfn: Pfn) -> Option<Isolated<'_>> {
        // Check without a lock first: a frame that is not movable may just be initialised by
        // another thread (S-05).
        let known = self.movability == Movability::On && u64::from(pfn.0) < self.capacity().0;
        if !known || !can_be_isolated(self.tables.frames.state(pfn)) {
            return None;
        }
        // One update checks again, takes a reference and locks the page: the frame may have been
        // freed and allocated again since the first check (R-102, S-04, S-06).
        let before = self.tables.frames.update(pfn, |state| {
            if can_be_isolated(state) { state.with_reference().map(State::locked) } else { None }
        })?;
        let attempt = IsolationAttempt::new(self, pfn);
        let owner = before.owner()?;
        let ops = self.registry.ops(owner)?;
        let lists = self.lists_of(owner, &*ops).ok()?;
        let lru_state = match lists {
            // a second reference pins a page on a list. Moving it would leave the holder
            // of that reference with the old frame.
            Some(_) if before.references() > 1 => return None,
            Some(lru) => Some(lru.isolate(pfn)?),
            None => None,
        };
        if attempt.owner_agrees(&*ops) {
            return attempt.isolate(lru_state);
        }
        // While the page lock is held: no other thread can isolate the frame before it is back.
        if let (Some(lru), Some(lru_state)) = (lists, lru_state) {
            lru.put_back(pfn, lru_state);
        }
        None
    }

    /// Returns the lists that the owner's frames are on, if any.
    pub(super) fn lists_of<'o>(
        &self,
        owner: OwnerId,
        ops: &'o dyn MovableOps,
    ) -> Result<Option<&'o Lru>, LruMismatch> {
        match catch_unwind(AssertUnwindSafe(|| ops.lru())) {
            Ok(None) => Ok(None),
            Ok(Some(lru)) if lru.is_of(self, owner) => Ok(Some(lru)),
            // A callback that panics counts as failed. Another owner's lists would get a frame
            // that is not theirs.
            Ok(Some(_)) | Err(_) => Err(LruMismatch),
        }
    }

    /// Returns whether a frame in this state can be moved: it has an owner, and frames move in
    /// this zone.
    pub(crate) fn can_move(&self, state: State) -> bool {
        self.movability == Movability::On && state.owner().is_some()
    }

    /// Returns how many frames are isolated now.
    #[must_use]
    pub fn isolated(&self) -> u64 {
        self.events.isolated()
    }
}

/// Returns whether a frame in this state is in use as a single frame, movable, not isolated and
/// not locked. Checks movable first, although no order would be wrong here.
fn can_be_isolated(state: State) -> bool {
    let movable = state.kind() == Some(Kind::Used)
        && state.order() == Some(Order::SINGLE)
        && state.owner().is_some();
    movable && !state.is_isolated() && !state.is_locked()
}

/// A frame with a reference and its page lock, whose owner has not agreed yet. Dropping it undoes
/// both.
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

    /// Marks the frame as isolated, unless its owner released it or put it on a list meanwhile.
    fn isolate(self, lru_state: Option<LruState>) -> Option<Isolated<'z>> {
        let (zone, pfn) = (self.zone, self.pfn);
        // One update sets the mark and clears the lock.
        let ours = |state: &State| state.owner().is_some() && state.lru_state() == LruState::Off;
        zone.tables.frames.update(pfn, |state| {
            Some(state).filter(ours).map(|state| state.isolated().unlocked())
        })?;
        // The lock and the reference belong to the isolation now.
        std::mem::forget(self);
        zone.events.isolate();
        Some(Isolated { zone, pfn, lru_state })
    }
}

impl Drop for IsolationAttempt<'_> {
    fn drop(&mut self) {
        self.locked = None;
        self.zone.put_migrated(self.pfn, TargetCharge::Charged);
    }
}

impl<'z> Isolated<'z> {
    /// Returns the frame's number.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// Returns the zone of the frame.
    pub(crate) fn zone(&self) -> &'z Zone {
        self.zone
    }

    /// Returns whether the owner still has the frame: it may have released it since.
    #[must_use]
    pub fn has_owner(&self) -> bool {
        self.is_movable()
    }

    /// Returns whether the owner still has the frame.
    pub(crate) fn is_movable(&self) -> bool {
        self.zone.tables.frames.state(self.pfn).owner().is_some()
    }

    /// Returns the frame's owner and its callbacks, or `None` when the owner released the frame
    /// or is gone.
    pub(crate) fn ops(&self) -> Option<(OwnerId, Arc<dyn MovableOps>)> {
        let owner = self.zone.tables.frames.state(self.pfn).owner()?;
        Some((owner, self.zone.registry.ops(owner)?))
    }

    /// Takes the page lock. It is free: only a frame that is not isolated can be locked by
    /// others, and only one that is not locked can be isolated.
    pub(crate) fn lock(&self) -> LockedFrame<'z> {
        let before = self.zone.tables.frames.update(self.pfn, |state| Some(state.locked()));
        debug_assert!(
            before.is_some_and(|state| !state.is_locked()),
            "the page lock of {} is held by another thread",
            self.pfn
        );
        LockedFrame::new(self.zone, self.pfn, self.lru_state)
    }

    /// Ends the isolation of a frame that needs no putback: its owner released it, or it was
    /// migrated. Returns the frame's number if this was the last reference: its state is "cached"
    /// then, and the caller frees it.
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
            // Already unwinding: a second panic would abort. The frame is only lost.
            Err(_) if std::thread::panicking() => None,
            Err(error) => panic!("{error}"),
        }
    }
}

impl Drop for Isolated<'_> {
    /// Puts the frame back. The owner is called only if it still has the frame (R-063, S-10,
    /// S-11).
    fn drop(&mut self) {
        let locked = self.lock();
        // Check movable first, isolated second: a frame that its owner released is still marked
        // as isolated, and must not be put back.
        if let Some((owner, ops)) = self.ops() {
            // The frame is put back even if the callback panics.
            let _ = catch_unwind(AssertUnwindSafe(|| ops.putback(&locked)));
            if let (Ok(Some(lru)), Some(lru_state)) =
                (self.zone.lists_of(owner, &*ops), self.lru_state)
            {
                lru.put_back(self.pfn, lru_state);
            }
        }
        drop(locked);
        self.zone.tables.frames.update(self.pfn, |state| Some(state.not_isolated()));
        self.zone.events.end_isolation();
        self.zone.put_migrated(self.pfn, TargetCharge::Charged);
    }
}

impl<'z> LockedFrame<'z> {
    fn new(zone: &'z Zone, pfn: Pfn, lru_state: Option<LruState>) -> Self {
        Self { zone, pfn, lru_state, committed_charge: Cell::new(None) }
    }

    /// Records that a target with this charge replaced the frame.
    pub(super) fn note_committed(&self, charge: TargetCharge) {
        self.committed_charge.set(Some(charge));
    }

    /// Returns the charge of the target that replaced the frame while it was locked.
    pub(super) fn committed_charge(&self) -> Option<TargetCharge> {
        self.committed_charge.get()
    }

    /// Returns the frame's number.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// Returns the private value and position that the owner passed to
    /// [`Owner::set_movable`](super::Owner::set_movable).
    #[must_use]
    pub fn private(&self) -> Option<(u32, u8)> {
        self.zone.tables.frames.private(self.pfn)
    }

    /// Returns the LRU list that the frame was on when it was isolated.
    pub(crate) fn lru_state(&self) -> Option<LruState> {
        self.lru_state
    }

    /// Returns the zone of the frame.
    pub(crate) fn zone(&self) -> &'z Zone {
        self.zone
    }
}

impl Drop for LockedFrame<'_> {
    fn drop(&mut self) {
        self.zone.tables.frames.update(self.pfn, |state| Some(state.unlocked()));
    }
}
