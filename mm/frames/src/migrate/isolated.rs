//! Isolated frames.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::buddy::InFlight;
use crate::page::{Kind, LruState, State};
use crate::units::{Order, Pfn};
use crate::zone::{Callbacks, LockedFrame, LruPlace, ReplacedBy, Zone};

/// A frame isolated from its owner, with a reference of its own: one value for each isolated frame
/// . Dropping it puts it back.
#[derive(Debug)]
#[must_use = "dropping an isolated frame puts it back"]
pub struct Isolated<'z> {
    zone: &'z Zone,
    pfn: Pfn,
    replaced_by: ReplacedBy,
    /// The LRU list it was on; `None` for a frame of an owner without lists.
    lru: Option<LruPlace>,
}

/// Isolates a movable frame: see [`Zone::isolate`].
pub(super) fn isolate(zone: &Zone, pfn: Pfn) -> Option<Isolated<'_>> {
    // Check without a lock first: a frame that is not movable may just be initialised by
    // another thread (S-05).
    let frames = &zone.tables().frames;
    if !zone.moves_frames()
        || u64::from(pfn.0) >= zone.capacity().0
        || !can_be_isolated(frames.state(pfn))
    {
        return None;
    }
    // One update checks again, takes a reference and locks the page: the frame may have been
    // freed and allocated again since the first check (R-102, S-04, S-06).
    let before = frames.update(pfn, |state| {
        if can_be_isolated(state) { state.with_reference().map(State::locked) } else { None }
    })?;
    let owner = before.owner();
    let replaced_by = owner.map_or(ReplacedBy::Owner, |id| zone.registry().replaced_by(id));
    // Dropped in the reverse order: the lock first.
    let reference = IsolationReference { zone, pfn };
    let locked = LockedFrame::new(zone.allocator(), pfn, replaced_by, None);
    let Callbacks { ops, lru } = zone.registry().callbacks(owner?)?;
    let place = match lru {
        // a second reference pins a page on a list. Moving it would leave the holder
        // of that reference with the old frame.
        Some(_) if before.references() > 1 => return None,
        Some(lists) => {
            let state = lists.with(frames).isolate(pfn)?;
            Some(LruPlace { lists, state })
        }
        None => None,
    };
    if !catch_unwind(AssertUnwindSafe(|| ops.isolate(&locked))).unwrap_or(false) {
        // While the page lock is held: no other thread can isolate the frame before it is
        // back.
        if let Some(place) = place {
            place.put_back(zone.allocator(), pfn);
        }
        return None;
    }
    // One update sets the mark and clears the lock, unless the owner released the frame or put
    // it on a list since.
    let ours = |state: &State| state.owner().is_some() && state.lru_state() == LruState::Off;
    frames
        .update(pfn, |state| Some(state).filter(ours).map(|state| state.isolated().unlocked()))?;
    // The lock and the reference belong to the isolation now.
    mem::forget((locked, reference));
    zone.events().isolate();
    Some(Isolated { zone, pfn, replaced_by, lru: place })
}

/// Returns whether a frame in this state is in use as a single frame, movable, not isolated and
/// not locked. Checks movable first, although no order would be wrong here.
fn can_be_isolated(state: State) -> bool {
    let movable = state.kind() == Some(Kind::Used)
        && state.order() == Some(Order::SINGLE)
        && state.owner().is_some();
    movable && !state.is_isolated() && !state.is_locked()
}

/// The reference of an attempt to isolate a frame. Dropping it puts the reference.
struct IsolationReference<'z> {
    zone: &'z Zone,
    pfn: Pfn,
}

impl Drop for IsolationReference<'_> {
    fn drop(&mut self) {
        self.zone.allocator().put_migrated(self.pfn, InFlight::default());
    }
}

impl<'z> Isolated<'z> {
    /// Returns the frame's number.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    pub(super) fn zone(&self) -> &'z Zone {
        self.zone
    }

    /// Returns whether the owner still has the frame.
    #[must_use]
    pub fn has_owner(&self) -> bool {
        self.zone.tables().frames.state(self.pfn).owner().is_some()
    }

    /// Returns the callbacks of the frame's owner, unless it released the frame or is gone.
    pub(super) fn callbacks(&self) -> Option<Callbacks> {
        let owner = self.zone.tables().frames.state(self.pfn).owner()?;
        self.zone.registry().callbacks(owner)
    }

    /// Takes the page lock. It is free: only a frame that is not isolated can be locked by
    /// others, and only one that is not locked can be isolated.
    pub(crate) fn lock(&self) -> LockedFrame<'z> {
        let before = self.zone.tables().frames.update(self.pfn, |state| Some(state.locked()));
        debug_assert!(
            before.is_some_and(|state| !state.is_locked()),
            "the page lock of {} is held by another thread",
            self.pfn
        );
        LockedFrame::new(self.zone.allocator(), self.pfn, self.replaced_by, self.lru.clone())
    }

    /// Ends the isolation of a frame that needs no putback: its owner released it, or it was
    /// migrated. If this was the last reference, returns the frame, now "cached", for the caller to
    /// free.
    pub(crate) fn end_isolation(mut self) -> Option<Pfn> {
        let (zone, pfn) = (self.zone, self.pfn);
        // Only what needs no drop is forgotten.
        self.lru = None;
        mem::forget(self);
        zone.tables().frames.update(pfn, |state| Some(state.not_isolated()));
        zone.events().end_isolation();
        zone.tables().frames.put_last(pfn)?;
        zone.tables().frames.clear_private(pfn);
        Some(pfn)
    }
}

impl Drop for Isolated<'_> {
    /// Puts the frame back. The owner is called only if it still has the frame (R-063, S-10,
    /// S-11).
    fn drop(&mut self) {
        let locked = self.lock();
        // Check movable first, isolated second: a frame that its owner released is still marked
        // as isolated, and must not be put back.
        if let Some(Callbacks { ops, .. }) = self.callbacks() {
            // The frame is put back even if the callback panics.
            let _ = catch_unwind(AssertUnwindSafe(|| ops.putback(&locked)));
            if let Some(place) = &self.lru {
                place.put_back(self.zone.allocator(), self.pfn);
            }
        }
        drop(locked);
        self.zone.tables().frames.update(self.pfn, |state| Some(state.not_isolated()));
        self.zone.events().end_isolation();
        self.zone.allocator().put_migrated(self.pfn, InFlight::default());
    }
}
