//! Reservations: room below the limit that is kept for frames which are taken later.
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
use crate::buddy::Buddy;
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

    /// Turns room that [`Reservation::detach`] left back into a reservation. The caller has kept
    /// the number since.
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

    /// Takes a frame as [`Reservation::take`] does, frozen: no other thread can get a reference
    /// before the caller publishes it.
    pub(crate) fn take_frozen(&mut self, migrate_type: MigrateType) -> Result<Pfn, AllocError> {
        self.take_as(migrate_type, State::FROZEN)
    }

    fn take_as(&mut self, migrate_type: MigrateType, to: State) -> Result<Pfn, AllocError> {
        if self.frames == 0 {
            return Err(AllocError::Limit);
        }
        self.zone.allocator.process_memory_failures();
        if let Some(pfn) = self.take_from(&mut self.zone.allocator.buddy.lock(), migrate_type, to) {
            return Ok(pfn);
        }
        let zone = self.zone;
        zone.allocator.with_drained_lists(|buddy, lists| {
            let taken = self.take_from(buddy, migrate_type, to).map(Ok);
            // Free frames may be on their way to the OS. The thread that releases them holds no
            // lock, so this ends.
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
    /// until [`Zone::reattach`].
    ///
    /// Returns whether there were as many; otherwise nothing has changed.
    #[must_use]
    pub fn detach(&mut self, frames: FrameCount) -> bool {
        let left = self.frames.checked_sub(frames.0);
        self.frames = left.unwrap_or(self.frames);
        left.is_some()
    }

    /// Returns whether this is a reservation of `zone`.
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{Backing, Reclaim, ZoneConfig};

    fn zone(limit: u64) -> Zone {
        let limit = Some(FrameCount(limit));
        let config = ZoneConfig {
            capacity: FrameCount(1024),
            limit,
            backing: Backing::Heap,
            ..ZoneConfig::default()
        };
        Zone::new(config).expect("a small zone")
    }

    fn alloc(zone: &Zone) -> Result<Frame<'_>, AllocError> {
        zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed)
    }

    #[test]
    fn reserved_room_is_not_allocated() {
        let zone = zone(4);
        let mut reservation = zone.reserve(FrameCount(3)).expect("room for four");
        let other = alloc(&zone).expect("the fourth");
        assert_eq!(alloc(&zone).map(drop), Err(AllocError::Limit));
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
        let held = alloc(&zone).expect("room");
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
        assert_eq!(alloc(&zone).map(drop), Err(AllocError::Limit));
        drop(reservation.take(MigrateType::Movable).expect("promised"));
        drop(reservation);
        drop(alloc(&zone).expect("one is allowed"));
    }
}
