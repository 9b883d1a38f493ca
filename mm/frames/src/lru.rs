//! LRU lists: which frames of an owner were used lately, and which one to give up next.
//!
//! For owners that hold frames they can do without. Such an owner registers with [`Zone::reserve_lru_owner`] and answers
//! [`MovableOps::lru`](crate::MovableOps::lru) with its lists: that makes its frames the kind migration calls LRU frames (R-020).
//!
//! ```text
//!         add            mark_accessed              scan
//!   off -------> inactive ----------> referenced ----------> active
//!    ^            |  ^                                         |
//!    +------------+  +-----------------------------------------+
//!     release, isolate        scan, when the active list is the longer one
//! ```
//! "Inactive" and "referenced" frames are on one list, "active" ones on the other. The scan looks at the old end of the inactive list: a frame that
//! was touched while it was there gets a second chance on the other list, one that was not is the one to give up.
//!
//! # Where the links are
//! In the two link words of the frame's descriptor, which buddy lists use while it is free. So lists cost no memory. One of the two holds the
//! position an owner notes for its frame; an LRU frame has none: its position reads as 0, and only while it is on no list.
//!
//! # Migration
//! Isolation takes the frame off its list, an accepted target takes its place at the young end of that list, and the old frame, which is
//! dying, is never put on a list again (R-020, S-37). A frame that was not moved is put back (R-026). Nothing of this is in the path that gives back
//! a reference (R-021), and nothing is collected in batches that would have to be drained (R-035).
//!
//! # Locking
//! One mutex for both lists; nothing else is locked under it. Under it: links, places in state words, and the step that lets go of a
//! frame, so that a frame which is not its owner's any more is on no list (INV-LRU-1). [`Lru::mark_accessed`] takes no lock.
//!
//! # Invariants
//! - INV-LRU-1: a frame is on a list only while its owner has it and it is not isolated, but for the end of a putback, when it is both.
//! - INV-LRU-2: the place in a frame's state word says which list it is on; it leaves "off" and returns there under the mutex only.

use std::sync::Arc;

use sync::{Mutex, MutexGuard};

use crate::check::CheckError;
use crate::descriptor::{Descriptors, Put};
use crate::freelist::NONE;
use crate::state::{OwnerId, State};
use crate::units::{FrameCount, Pfn};
use crate::zone::Zone;

/// Frames with a second chance that one scan looks at, and frames it takes back from the active list. Bounds the time the mutex is held.
const SCAN_LIMIT: u32 = 32;

/// Where a frame is. Two bits of its state word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LruState {
    /// On no list.
    Off,
    /// On the inactive list.
    Inactive,
    /// On the inactive list, and touched since it came there.
    Referenced,
    /// On the active list.
    Active,
}

/// The lists of one owner.
#[derive(Debug)]
pub struct Lru {
    zone: Arc<Zone>,
    owner: OwnerId,
    lists: Mutex<Lists>,
}

/// How long the lists are, and what has happened to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LruStats {
    /// Frames on the inactive list.
    pub inactive: FrameCount,
    /// Frames on the active list.
    pub active: FrameCount,
    /// Times a frame was put on a list from outside: by its owner, by a migration, or by a putback.
    pub added: u64,
    /// Times a scan gave a frame its second chance.
    pub activated: u64,
}

#[derive(Debug)]
struct Lists {
    inactive: List,
    active: List,
    added: u64,
    activated: u64,
}

#[derive(Debug)]
struct List {
    head: u32,
    tail: u32,
    frames: u64,
}

impl Lru {
    pub(crate) fn new(zone: Arc<Zone>, owner: OwnerId) -> Self {
        let list = || List { head: NONE, tail: NONE, frames: 0 };
        Self {
            zone,
            owner,
            lists: Mutex::ranked(
                sync::Rank::Leaf,
                Lists { inactive: list(), active: list(), added: 0, activated: 0 },
            ),
        }
    }

    fn frames(&self) -> &Descriptors {
        &self.zone.tables.frames
    }

    /// Whether these are the lists of this owner.
    pub(crate) fn is_of(&self, zone: &Zone, owner: OwnerId) -> bool {
        std::ptr::eq(&*self.zone, zone) && self.owner == owner
    }

    /// Puts a frame of the owner's at the young end of the inactive list. `false`, and nothing changed, when it is on a list, not the owner's, or
    /// isolated: migration puts it back itself.
    pub fn add(&self, pfn: Pfn) -> bool {
        self.insert(pfn, LruState::Inactive, |state| !state.is_isolated())
    }

    /// Notes that the frame was used. One load when that is known already.
    ///
    /// Locking: none. The caller holds what keeps the frame its owner's.
    pub fn mark_accessed(&self, pfn: Pfn) {
        let inactive = |state: State| self.has(state) && state.lru_state() == LruState::Inactive;
        let mark =
            |state: State| inactive(state).then(|| state.with_lru_state(LruState::Referenced));
        if self.frames().state(pfn).lru_state() == LruState::Inactive {
            let _ = self.frames().update(pfn, mark);
        }
    }

    /// What the owner calls the frame it had best give up next; `None` when there is none.
    ///
    /// The frame stays on its list, at the young end: if the owner cannot give it up just now the next scan comes to others first. By the time the
    /// owner acts on the name it may stand for something else, so it looks again. Isolated frames are passed over (R-034, S-43).
    #[must_use]
    pub fn scan(&self) -> Option<u32> {
        let mut lists = self.lists.lock();
        let mut chances = 0;
        // Each frame once, and those again that were given a second chance.
        for _ in 0..lists.inactive.frames + lists.active.frames + u64::from(SCAN_LIMIT) {
            lists.balance(self.frames());
            let pfn = lists.inactive.oldest()?;
            let state = self.frames().state(pfn);
            lists.inactive.remove(self.frames(), pfn);
            // Somebody who is used by all is given up in the end, or a scan would never be over.
            if state.lru_state() == LruState::Referenced && chances < SCAN_LIMIT {
                chances += 1;
                self.set_place(pfn, LruState::Active);
                lists.active.push(self.frames(), pfn);
                lists.activated += 1;
                continue;
            }
            lists.inactive.push(self.frames(), pfn);
            if !state.is_isolated() {
                return self.frames().private(pfn).map(|(name, _)| name);
            }
        }
        None
    }

    /// Lengths and events.
    ///
    /// Locking: the mutex, for a moment.
    #[must_use]
    pub fn stats(&self) -> LruStats {
        let lists = self.lists.lock();
        let (inactive, active) =
            (FrameCount(lists.inactive.frames), FrameCount(lists.active.frames));
        LruStats { inactive, active, added: lists.added, activated: lists.activated }
    }

    /// Takes a frame off its list for isolation; `None` when it is on none.
    pub(crate) fn isolate(&self, pfn: Pfn) -> Option<LruState> {
        self.remove(&mut self.lists.lock(), pfn)
    }

    /// Puts a frame that was taken off where it was, or a new frame in the place of the old one. Nothing when the owner let go of it meanwhile.
    pub(crate) fn put_back(&self, pfn: Pfn, place: LruState) {
        let _ = self.insert(pfn, place, |_| true);
    }

    /// The owner lets go of the frame: off its list and no longer movable, with no moment between the two in which a putback could add it again.
    pub(crate) fn clear_movable(&self, pfn: Pfn) -> Option<Put> {
        let mut lists = self.lists.lock();
        let _ = self.remove(&mut lists, pfn);
        self.frames().clear_movable(pfn, self.owner)
    }

    /// The owner takes a frame back, if `reclaim` lets it: off its list and no longer movable.
    pub(crate) fn reclaim_from_owner(
        &self,
        pfn: Pfn,
        reclaim: impl Fn(State) -> Option<State>,
    ) -> Option<()> {
        let mut lists = self.lists.lock();
        let off = |state: State| reclaim(state).map(|state| state.with_lru_state(LruState::Off));
        let place = self.frames().update(pfn, off)?.lru_state();
        if place != LruState::Off {
            lists.of(place).remove(self.frames(), pfn);
        }
        Some(())
    }

    fn insert(&self, pfn: Pfn, place: LruState, may: impl Fn(State) -> bool) -> bool {
        let mut lists = self.lists.lock();
        let off = |state: State| self.has(state) && state.lru_state() == LruState::Off;
        let free = |state: State| (off(state) && may(state)).then(|| state.with_lru_state(place));
        if self.frames().update(pfn, free).is_none() {
            return false;
        }
        lists.of(place).push(self.frames(), pfn);
        lists.added += 1;
        true
    }

    fn remove(&self, lists: &mut MutexGuard<'_, Lists>, pfn: Pfn) -> Option<LruState> {
        // Another owner's frame is on that owner's lists.
        let on_list = |state: State| self.has(state) && state.lru_state() != LruState::Off;
        let off = |state: State| on_list(state).then(|| state.with_lru_state(LruState::Off));
        let place = self.frames().update(pfn, off)?.lru_state();
        lists.of(place).remove(self.frames(), pfn);
        Some(place)
    }

    fn set_place(&self, pfn: Pfn, place: LruState) {
        self.frames().update(pfn, |state| Some(state.with_lru_state(place)));
    }

    /// Whether the frame is the owner's.
    fn has(&self, state: State) -> bool {
        state.owner() == Some(self.owner)
    }

    /// Checks both lists against the frames' descriptors (R-061).
    ///
    /// The owner must be quiet.
    ///
    /// # Errors
    /// [`CheckError`] names the first contradiction.
    pub fn check(&self) -> Result<(), CheckError> {
        let lists = self.lists.lock();
        for (list, is_active) in [(&lists.inactive, false), (&lists.active, true)] {
            let (mut previous, mut next, mut counted) = (NONE, list.head, 0);
            while next != NONE {
                let pfn = Pfn(next);
                let state = self.frames().state(pfn);
                let fits = state.lru_state() != LruState::Off
                    && (state.lru_state() == LruState::Active) == is_active;
                let sound = self.has(state)
                    && !state.is_isolated()
                    && self.frames().previous(pfn) == previous;
                if !fits || !sound || counted == list.frames {
                    return Err(CheckError::State { pfn, state: state.bits() });
                }
                counted += 1;
                (previous, next) = (pfn.0, self.frames().next(pfn));
            }
            if counted != list.frames || list.tail != previous {
                return Err(CheckError::Count {
                    what: "frames on an LRU list",
                    counted: list.frames,
                    found: counted,
                });
            }
        }
        Ok(())
    }
}

impl Lists {
    fn of(&mut self, place: LruState) -> &mut List {
        if place == LruState::Active { &mut self.active } else { &mut self.inactive }
    }

    /// Moves frames from the old end of the active list until it is no longer than the other one. They need to be touched again to stay.
    fn balance(&mut self, frames: &Descriptors) {
        for _ in 0..SCAN_LIMIT {
            let Some(pfn) =
                self.active.oldest().filter(|_| self.active.frames > self.inactive.frames)
            else {
                return;
            };
            self.active.remove(frames, pfn);
            frames.update(pfn, |state| Some(state.with_lru_state(LruState::Inactive)));
            self.inactive.push(frames, pfn);
        }
    }
}

impl List {
    fn oldest(&self) -> Option<Pfn> {
        (self.tail != NONE).then_some(Pfn(self.tail))
    }

    fn push(&mut self, frames: &Descriptors, pfn: Pfn) {
        frames.set_next(pfn, self.head);
        frames.set_previous(pfn, NONE);
        if self.head == NONE {
            self.tail = pfn.0;
        } else {
            frames.set_previous(Pfn(self.head), pfn.0);
        }
        self.head = pfn.0;
        self.frames += 1;
    }

    fn remove(&mut self, frames: &Descriptors, pfn: Pfn) {
        let (next, previous) = (frames.next(pfn), frames.previous(pfn));
        if previous == NONE {
            self.head = next;
        } else {
            frames.set_next(Pfn(previous), next);
        }
        if next == NONE {
            self.tail = previous;
        } else {
            frames.set_previous(Pfn(next), previous);
        }
        // The link is the frame's position again.
        frames.set_next(pfn, 0);
        self.frames -= 1;
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
