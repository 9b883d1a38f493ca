//! LRU lists: which frames of an owner were used recently, and which frame to reclaim next.
//!
//! For owners that hold frames they can drop, such as caches
//! ([`Zone::reserve_lru_owner`](crate::Zone::reserve_lru_owner)).
//!
//! ```text
//!         add            mark_accessed              scan
//!   off -------> inactive ----------> referenced ----------> active
//!    ^            |  ^                                         |
//!    +------------+  +-----------------------------------------+
//!     release, isolate        scan, when the active list is the longer one
//! ```
//! "Inactive" and "referenced" frames are on one list, "active" ones on the other. The scan takes
//! frames from the old end of the inactive list. One that was accessed while it was there gets a
//! second chance on the active list; one that was not is reclaimed next.
//!
//! The links are in the link words of the frame's descriptor, which the buddy lists use while the
//! frame is free. One of these words otherwise holds the position of the private value; that of an
//! LRU frame reads as 0, and only while it is on no list.
//!
//! # Migration
//! Isolation removes the frame from its list. A committed target is added at the young end of
//! that list, and the old frame, which is about to be freed, is never put on a list again (R-020,
//! S-37). A frame that was not moved is put back (R-026). Putting a reference does not touch the
//! lists (R-021), and there are no batches to drain (R-035).
//!
//! # Locking
//! One mutex protects both lists; no other lock is taken under it. It covers the links, the list
//! states in state words, and the update that releases a frame (INV-LRU-1).
//!
//! # Invariants
//! - INV-LRU-1: a frame is on a list only while its owner has it and it is not isolated. The
//!   exception is the end of a putback, when it is both.
//! - INV-LRU-2: the list state in a frame's state word says which list it is on. It leaves "off"
//!   and returns there only under the mutex.

use sync::{Mutex, MutexGuard};

use crate::error::CheckError;
use crate::page::{Descriptors, LruState, NO_FRAME, OwnerId, Put, State};
use crate::units::{FrameCount, Pfn};

/// The most second chances in one scan, and frames moved back from the active list in one step.
/// Bounds the time that the mutex is held.
const SCAN_LIMIT: u32 = 32;

/// The lists of one owner. [`Lru`] works on them.
#[derive(Debug)]
pub(crate) struct LruLists {
    owner: OwnerId,
    lists: Mutex<Lists>,
}

/// The LRU lists of one owner, as it uses them.
#[derive(Clone, Copy, Debug)]
pub struct Lru<'o> {
    frames: &'o Descriptors,
    of: &'o LruLists,
}

/// The lengths of the lists, and counts of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LruStats {
    /// Frames on the inactive list.
    pub inactive: FrameCount,
    /// Frames on the active list.
    pub active: FrameCount,
    /// How often a frame was added: by its owner, by a migration, or by a putback.
    pub added: u64,
    /// How often a scan gave a frame a second chance.
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

impl LruLists {
    pub(crate) fn new(owner: OwnerId) -> Self {
        let list = || List { head: NO_FRAME, tail: NO_FRAME, frames: 0 };
        let lists = Lists { inactive: list(), active: list(), added: 0, activated: 0 };
        Self { owner, lists: Mutex::ranked(sync::Rank::Leaf, lists) }
    }

    /// Returns the lists together with the descriptors of their zone, which hold the links.
    pub(crate) fn with<'o>(&'o self, frames: &'o Descriptors) -> Lru<'o> {
        Lru { frames, of: self }
    }
}

impl Lru<'_> {
    /// Adds a frame of the owner's at the young end of the inactive list. Returns `false` when it
    /// is on a list already, is not the owner's, or is isolated: migration puts it back.
    pub fn add(&self, pfn: Pfn) -> bool {
        self.insert(pfn, LruState::Inactive, |state| !state.is_isolated())
    }

    /// Marks the frame as accessed. One load when it already is.
    ///
    /// Locking: none. The caller keeps the frame from being released.
    pub fn mark_accessed(&self, pfn: Pfn) {
        let inactive = |state: State| self.has(state) && state.lru_state() == LruState::Inactive;
        let mark =
            |state: State| inactive(state).then(|| state.with_lru_state(LruState::Referenced));
        if self.frames.state(pfn).lru_state() == LruState::Inactive {
            let _ = self.frames.update(pfn, mark);
        }
    }

    /// Returns the private value of the frame that the owner should drop next, if there is one. The
    /// value may be out of date by the time the owner uses it, so the owner checks it again.
    ///
    /// The frame moves to the young end of its list: if the owner cannot drop it now, the next
    /// scan tries others first. Isolated frames are skipped (R-034, S-43).
    #[must_use]
    pub fn scan(&self) -> Option<u32> {
        let mut lists = self.of.lists.lock();
        let mut chances = 0;
        // Each frame once, and those again that get a second chance.
        for _ in 0..lists.inactive.frames + lists.active.frames + u64::from(SCAN_LIMIT) {
            lists.balance(self.frames);
            let pfn = lists.inactive.oldest()?;
            let state = self.frames.state(pfn);
            lists.inactive.remove(self.frames, pfn);
            // Limited: otherwise a scan of frames that are all in use would not end.
            if state.lru_state() == LruState::Referenced && chances < SCAN_LIMIT {
                chances += 1;
                self.frames.update(pfn, |state| Some(state.with_lru_state(LruState::Active)));
                lists.active.push(self.frames, pfn);
                lists.activated += 1;
                continue;
            }
            lists.inactive.push(self.frames, pfn);
            if !state.is_isolated() {
                return self.frames.private(pfn).map(|(name, _)| name);
            }
        }
        None
    }

    /// Returns the lengths of the lists and the event counts.
    ///
    /// Locking: takes the mutex briefly.
    #[must_use]
    pub fn stats(&self) -> LruStats {
        let lists = self.of.lists.lock();
        let (inactive, active) =
            (FrameCount(lists.inactive.frames), FrameCount(lists.active.frames));
        LruStats { inactive, active, added: lists.added, activated: lists.activated }
    }

    /// Removes a frame from its list for isolation; `None` when it is on none.
    pub(crate) fn isolate(&self, pfn: Pfn) -> Option<LruState> {
        self.remove(&mut self.of.lists.lock(), pfn)
    }

    /// Puts an isolated frame back on its list, or adds the new frame in its place. Does nothing
    /// when the owner released it meanwhile.
    pub(crate) fn put_back(&self, pfn: Pfn, lru_state: LruState) {
        let _ = self.insert(pfn, lru_state, |_| true);
    }

    /// Releases the owner's frame in one critical section, so that no putback adds it in between.
    pub(crate) fn clear_movable(&self, pfn: Pfn) -> Option<Put> {
        let mut lists = self.of.lists.lock();
        let _ = self.remove(&mut lists, pfn);
        self.frames.clear_movable(pfn, self.of.owner)
    }

    /// Makes a frame unmovable if `reclaim` permits it, and removes it from its list.
    pub(crate) fn reclaim_from_owner(
        &self,
        pfn: Pfn,
        reclaim: impl Fn(State) -> Option<State>,
    ) -> Option<()> {
        let mut lists = self.of.lists.lock();
        let off = |state: State| reclaim(state).map(|state| state.with_lru_state(LruState::Off));
        let lru_state = self.frames.update(pfn, off)?.lru_state();
        if lru_state != LruState::Off {
            lists.of(lru_state).remove(self.frames, pfn);
        }
        Some(())
    }

    /// Adds a frame of the owner's that is on no list, if `may` permits it.
    fn insert(&self, pfn: Pfn, lru_state: LruState, may: impl Fn(State) -> bool) -> bool {
        let mut lists = self.of.lists.lock();
        let off = |state: State| self.has(state) && state.lru_state() == LruState::Off;
        let free =
            |state: State| (off(state) && may(state)).then(|| state.with_lru_state(lru_state));
        if self.frames.update(pfn, free).is_none() {
            return false;
        }
        lists.of(lru_state).push(self.frames, pfn);
        lists.added += 1;
        true
    }

    /// Removes a frame of the owner's from its list; `None` when it is on none.
    fn remove(&self, lists: &mut MutexGuard<'_, Lists>, pfn: Pfn) -> Option<LruState> {
        // A frame of another owner is on that owner's lists.
        let on_list = |state: State| self.has(state) && state.lru_state() != LruState::Off;
        let off = |state: State| on_list(state).then(|| state.with_lru_state(LruState::Off));
        let lru_state = self.frames.update(pfn, off)?.lru_state();
        lists.of(lru_state).remove(self.frames, pfn);
        Some(lru_state)
    }

    fn has(&self, state: State) -> bool {
        state.owner() == Some(self.of.owner)
    }

    /// Checks both lists against the frames' descriptors (R-061). No other thread may use the
    /// lists or frames of the owner meanwhile.
    ///
    /// # Errors
    /// [`CheckError`] for the first contradiction.
    pub fn check(&self) -> Result<(), CheckError> {
        let lists = self.of.lists.lock();
        for (list, is_active) in [(&lists.inactive, false), (&lists.active, true)] {
            // Walk the list from the young end and compare each frame's state and links.
            let (mut previous, mut next, mut counted) = (NO_FRAME, list.head, 0);
            while next != NO_FRAME {
                let pfn = Pfn(next);
                let state = self.frames.state(pfn);
                let sound = state.lru_state() != LruState::Off
                    && (state.lru_state() == LruState::Active) == is_active
                    && self.has(state)
                    && !state.is_isolated()
                    && self.frames.previous(pfn) == previous;
                if !sound || counted == list.frames {
                    return Err(CheckError::State { pfn, state: state.0 });
                }
                counted += 1;
                (previous, next) = (pfn.0, self.frames.next(pfn));
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
    fn of(&mut self, lru_state: LruState) -> &mut List {
        if lru_state == LruState::Active { &mut self.active } else { &mut self.inactive }
    }

    /// Moves the oldest active frames until the active list is no longer than the inactive one.
    fn balance(&mut self, frames: &Descriptors) {
        for _ in 0..SCAN_LIMIT {
            let too_long = self.active.frames > self.inactive.frames;
            let Some(pfn) = self.active.oldest().filter(|_| too_long) else { return };
            self.active.remove(frames, pfn);
            frames.update(pfn, |state| Some(state.with_lru_state(LruState::Inactive)));
            self.inactive.push(frames, pfn);
        }
    }
}

impl List {
    fn oldest(&self) -> Option<Pfn> {
        (self.tail != NO_FRAME).then_some(Pfn(self.tail))
    }

    fn push(&mut self, frames: &Descriptors, pfn: Pfn) {
        frames.set_next(pfn, self.head);
        frames.set_previous(pfn, NO_FRAME);
        if self.head == NO_FRAME {
            self.tail = pfn.0;
        } else {
            frames.set_previous(Pfn(self.head), pfn.0);
        }
        self.head = pfn.0;
        self.frames += 1;
    }

    fn remove(&mut self, frames: &Descriptors, pfn: Pfn) {
        let (next, previous) = (frames.next(pfn), frames.previous(pfn));
        if previous == NO_FRAME {
            self.head = next;
        } else {
            frames.set_next(Pfn(previous), next);
        }
        if next == NO_FRAME {
            self.tail = previous;
        } else {
            frames.set_previous(Pfn(next), previous);
        }
        // This link word holds the frame's position again.
        frames.set_next(pfn, 0);
        self.frames -= 1;
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

#[cfg(all(test, loom))]
mod tests {
    mod loom;
}
