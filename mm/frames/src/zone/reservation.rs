//! Reservations: room below the limit that is kept for frames which are taken later, and room
//! beyond the limit for callers about to free as many frames (the kernel's memalloc reserve).
//!
//! ```text
//!  reserve --> Reservation --take--> Frame    from here the frame counts, and the room does not
//!                 |    ^
//!          detach |    | reattach             the room stays reserved; the caller keeps its size
//!                 v    |
//!               a number
//! ```
//! Reserved room counts against the limit like frames in use, so no other request can take it.

use super::Zone;
use super::drain::CpuListsState;
use super::frame::Frame;
use crate::buddy::{Buddy, InFlight};
use crate::error::AllocError;
use crate::page::State;
use crate::units::{FrameCount, MigrateType, Order, Pfn};

/// Room for a number of frames. Dropping it cancels what was not taken.
#[derive(Debug)]
#[must_use = "dropping a reservation cancels it"]
pub struct Reservation<'z> {
    zone: &'z Zone,
    frames: u64,
}

impl Zone {
    /// Reserves room for `frames` below the limit.
    ///
    /// Locking: takes the zone lock; before refusing, each per-CPU list that holds frames.
    ///
    /// # Errors
    /// [`AllocError::Limit`] when fewer frames are left below the limit, or
    /// [`AllocError::Poisoned`]; nothing has changed then.
    pub fn reserve(&self, frames: FrameCount) -> Result<Reservation<'_>, AllocError> {
        if self.allocator.buddy.lock().reserve(frames.0) {
            return Ok(self.reattach(frames));
        }
        // Frames on per-CPU lists count as used until they are drained.
        self.allocator.with_drained_lists(|buddy, lists| match lists {
            _ if buddy.reserve(frames.0) => Some(Ok(self.reattach(frames))),
            CpuListsState::Empty => Some(Err(AllocError::Limit)),
            CpuListsState::Filled => None,
        })
    }

    /// Turns room that [`Reservation::detach`] left back into a reservation.
    pub fn reattach(&self, frames: FrameCount) -> Reservation<'_> {
        Reservation { zone: self, frames: frames.0 }
    }
}

impl<'z> Reservation<'z> {
    /// Returns how many frames can still be taken.
    #[must_use]
    pub fn frames(&self) -> FrameCount {
        FrameCount(self.frames)
    }

    /// Takes one of the reserved frames.
    ///
    /// Locking: takes the zone lock; when the buddy lists are empty, each per-CPU list that holds
    /// frames.
    ///
    /// # Errors
    /// [`AllocError::Limit`] when no reserved frame is left, [`AllocError::NoFrames`] when the
    /// arena has no free frame, or [`AllocError::Poisoned`]; nothing has changed then.
    pub fn take(&mut self, migrate_type: MigrateType) -> Result<Frame<'z>, AllocError> {
        let pfn = self.take_as(migrate_type, State::used(Order::SINGLE))?;
        Ok(Frame::new(self.zone, pfn))
    }

    /// Takes a frame as [`Reservation::take`] does. Its state is then `to`.
    pub(crate) fn take_as(
        &mut self,
        migrate_type: MigrateType,
        to: State,
    ) -> Result<Pfn, AllocError> {
        if self.frames == 0 {
            return Err(AllocError::Limit);
        }
        self.zone.allocator.process_memory_failures();
        let zone = self.zone;
        if let Some(pfn) = self.take_from(&mut zone.allocator.buddy.lock(), migrate_type, to) {
            return Ok(pfn);
        }
        zone.allocator.with_drained_lists(|buddy, lists| {
            let taken = self.take_from(buddy, migrate_type, to).map(Ok);
            // Free frames may be on their way to the OS, released by a thread without a lock.
            let is_final = lists == CpuListsState::Empty && buddy.releasing == 0;
            taken.or_else(|| is_final.then_some(Err(AllocError::NoFrames)))
        })
    }

    fn take_from(
        &mut self,
        buddy: &mut Buddy,
        migrate_type: MigrateType,
        to: State,
    ) -> Option<Pfn> {
        if buddy.is_poisoned() {
            return None;
        }
        let pfn = buddy.take_block(self.zone.tables(), migrate_type, Order::SINGLE, to)?;
        // In the same step as the charge: the sum of both does not change.
        buddy.ledger.cancel_reservation(1);
        self.frames -= 1;
        Some(pfn)
    }

    /// Removes `frames` from the value and leaves them reserved. The caller keeps the number
    /// until [`Zone::reattach`]. Returns whether there were as many; otherwise nothing has changed.
    #[must_use]
    pub fn detach(&mut self, frames: FrameCount) -> bool {
        let left = self.frames.checked_sub(frames.0);
        self.frames = left.unwrap_or(self.frames);
        left.is_some()
    }

    pub(crate) fn is_of(&self, zone: &Zone) -> bool {
        std::ptr::eq(self.zone, zone)
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if self.frames > 0 {
            let left = self.frames;
            self.zone.allocator.with_buddy(|buddy, _| buddy.ledger.cancel_reservation(left));
        }
    }
}

/// Room beyond the zone's limit. Dropping it withdraws the room.
#[derive(Debug)]
#[must_use = "dropping it withdraws the room"]
pub struct OverLimit<'z> {
    zone: &'z Zone,
    room: InFlight,
}

impl Zone {
    /// Lets `frames` more be allocated than the limit allows, for a caller that has as many in
    /// use and frees them right afterwards. Without it, a cache at the limit could never write
    /// its content to where it takes less room. As for a target of migration, such a frame counts
    /// once the old one is free. In a zone above a limit that was lowered, the room is beyond what
    /// is in use: otherwise it could never shrink to its limit.
    ///
    /// If another request takes that room, the caller's request is refused like any other. The
    /// zone then is above its limit by what was taken until the next frame is freed: never by
    /// more than the room of all `OverLimit` values at one time.
    ///
    /// Locking: takes the zone lock briefly.
    pub fn allow_over_limit(&self, frames: FrameCount) -> OverLimit<'_> {
        let most = self.capacity().0;
        let room = self.allocator.with_buddy(|buddy, _| {
            let frames = buddy.ledger.over_limit(frames.0).min(most);
            buddy.ledger.begin_flight(frames)
        });
        OverLimit { zone: self, room: room.unwrap_or_default() }
    }
}

impl Drop for OverLimit<'_> {
    fn drop(&mut self) {
        let room = std::mem::take(&mut self.room);
        self.zone.allocator.with_buddy(|buddy, _| buddy.ledger.land(room));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::zones::{take, take_all, zone_with};

    fn zone(limit: u64) -> Arc<Zone> {
        zone_with(1024, |config| config.limit = Some(FrameCount(limit)))
    }

    #[test]
    fn reserved_room_is_not_allocated() {
        let zone = zone(4);
        let mut reservation = zone.reserve(FrameCount(3)).expect("room for four");
        let other = take(&zone).expect("the fourth");
        assert_eq!(take(&zone).map(drop), Err(AllocError::Limit));
        assert_eq!(zone.reserve(FrameCount(1)).map(drop), Err(AllocError::Limit));
        let taken: Vec<_> =
            (0..3).map(|_| reservation.take(MigrateType::Movable).expect("reserved")).collect();
        assert_eq!(reservation.take(MigrateType::Movable).map(drop), Err(AllocError::Limit));
        assert_eq!((zone.stats().reserved, zone.stats().in_use), (FrameCount(0), FrameCount(4)));
        drop((taken, other));
        zone.check().expect("consistent");
    }

    #[test]
    fn a_reservation_larger_than_the_room_changes_nothing() {
        let zone = zone(4);
        let held = take(&zone).expect("room");
        assert_eq!(zone.reserve(FrameCount(4)).map(drop), Err(AllocError::Limit));
        assert_eq!(zone.reserve(FrameCount(u64::MAX)).map(drop), Err(AllocError::Limit));
        assert_eq!(zone.stats().reserved, FrameCount(0));
        drop(held);
        let all = zone.reserve(FrameCount(4)).expect("cached frames are drained first");
        assert_eq!(zone.stats().reserved, FrameCount(4));
        drop(all);
        assert_eq!(zone.stats().reserved, FrameCount(0));
    }

    #[test]
    fn detached_room_stays_reserved_until_reattached() {
        let zone = zone(4);
        let mut reservation = zone.reserve(FrameCount(3)).expect("room");
        assert!(!reservation.detach(FrameCount(4)));
        assert!(reservation.detach(FrameCount(2)));
        assert_eq!(reservation.frames(), FrameCount(1));
        drop(reservation);
        assert_eq!(zone.stats().reserved, FrameCount(2));
        let mut back = zone.reattach(FrameCount(2));
        let frame = back.take(MigrateType::Movable).expect("reserved");
        drop(back);
        assert_eq!((zone.stats().reserved, zone.stats().in_use), (FrameCount(0), FrameCount(1)));
        drop(frame);
    }

    #[test]
    fn a_lowered_limit_does_not_break_a_reservation() {
        let zone = zone(8);
        let mut reservation = zone.reserve(FrameCount(8)).expect("room");
        zone.set_limit(Some(FrameCount(1)));
        assert_eq!(take(&zone).map(drop), Err(AllocError::Limit));
        drop(reservation.take(MigrateType::Movable).expect("promised"));
        drop(reservation);
        drop(take(&zone).expect("one is allowed"));
    }

    /// At the limit, one more frame can be allocated against one that is freed afterwards, and no
    /// second one.
    #[test]
    fn over_limit_allows_one_frame_while_held() {
        let zone = zone(4);
        let mut held: Vec<_> = (0..4).map(|_| take(&zone).expect("below the limit")).collect();
        assert_eq!(take(&zone).map(drop), Err(AllocError::Limit));
        let over_limit = zone.allow_over_limit(FrameCount(1));
        held.push(take(&zone).expect("room beyond the limit"));
        assert_eq!(take(&zone).map(drop), Err(AllocError::Limit));
        drop(over_limit);
        held.truncate(4);
        assert_eq!(take(&zone).map(drop), Err(AllocError::Limit));
        drop(held);
        zone.check().expect("consistent");
    }

    /// What a caller is going to free may no longer be counted.
    #[test]
    fn over_limit_may_exceed_frames_in_use() {
        let zone = zone(4);
        let _over_limit = zone.allow_over_limit(FrameCount(2));
        let _first = take(&zone).expect("an empty zone");
    }

    /// The same in a zone above a lowered limit: otherwise it could never shrink to it.
    #[test]
    fn over_limit_works_above_a_lowered_limit() {
        let zone = zone(8);
        let held: Vec<_> = (0..8).map(|_| take(&zone).expect("below the limit")).collect();
        zone.set_limit(Some(FrameCount(4)));
        let over_limit = zone.allow_over_limit(FrameCount(1));
        let one = take(&zone).expect("room beyond the limit");
        assert_eq!(take(&zone).map(drop), Err(AllocError::Limit));
        drop((over_limit, one, held));
        assert_eq!(take_all(&zone).len(), 4);
        zone.check().expect("consistent");
    }
}
