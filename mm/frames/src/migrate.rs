//! Migration: moves the content of a frame to another frame while its owner and its readers keep
//! using it. `docs/migration.md` follows a frame through it and has the reference counts (R-068).
//!
//! An owner registers its [`MovableOps`](crate::MovableOps) with the zone and [makes frames
//! movable](Owner::set_movable) under its number. From then on any thread may ask for one of them
//! to be moved:
//!
//! ```text
//!                      Zone::isolate                 MovableOps::migrate
//!   in use, movable ----------------> Isolated -------------------------> the new frame has the
//!        ^                               |  |                             owner, the old is freed
//!        |  dropped: MovableOps::putback |  | the owner released the frame meanwhile
//!        +-------------------------------+  +---> freed, nothing moved
//! ```
//!
//! The types carry the protocol. An [`Isolated`] frame is a value: it is migrated, or dropping it
//! puts it back. A [`LockedFrame`](crate::LockedFrame) is a guard that three of the callbacks get.
//! A [`Target`](crate::Target) becomes a [`Committed`](crate::Committed) only by taking over the
//! old frame's owner, and only a `Committed` reports success. The kernel checks these rules with
//! assertions; here a violation does not compile.
//!
//! # Locking
//! Each callback that gets a [`LockedFrame`](crate::LockedFrame) runs with the page lock of the old
//! frame held. The page lock is only tried, and only migration takes it: an owner releases a frame
//! without it, in one update of the state word, which migration finds when it reads the word again.
//! No zone lock is held during a callback (R-104), so callbacks may free and allocate.

mod isolated;
mod owner;
mod targets;
mod pages;

use std::sync::Arc;

pub use isolated::Isolated;
pub use owner::{Owner, OwnersExhausted, SetMovableError};
pub use pages::Migration;
pub use targets::{MigratedSource, Targets};

use crate::page::State;
use crate::units::Pfn;
use crate::zone::{MigrateMode, Movability, Zone};

impl Zone {
    /// Reserves a number for an owner that is still being built. It can make frames movable at
    /// once; its callbacks run only after [`Owner::publish`].
    ///
    /// # Errors
    /// [`OwnersExhausted`] when all numbers are taken.
    pub fn reserve_owner(self: &Arc<Self>) -> Result<Owner, OwnersExhausted> {
        let movability = if self.moves_frames() { Movability::On } else { Movability::Off };
        Owner::reserve(self, movability)
    }

    /// Reserves a number as [`Zone::reserve_owner`] does, for an owner whose frames never move
    /// although those of other owners do: zsmalloc before the kernel could migrate its pages. For
    /// comparison.
    ///
    /// # Errors
    /// [`OwnersExhausted`] when all numbers are taken.
    pub fn reserve_pinned_owner(self: &Arc<Self>) -> Result<Owner, OwnersExhausted> {
        Owner::reserve(self, Movability::Off)
    }

    /// Reserves a number as [`Zone::reserve_owner`] does, with LRU lists for the owner's frames.
    ///
    /// # Errors
    /// [`OwnersExhausted`] when all numbers are taken.
    pub fn reserve_lru_owner(self: &Arc<Self>) -> Result<Owner, OwnersExhausted> {
        Ok(self.reserve_owner()?.with_lru())
    }

    /// Isolates a movable frame. Returns `None` when it is free, not movable, locked or already
    /// isolated, or when its owner refuses (R-060).
    ///
    /// Locking: tries the page lock. Call it with no lock of the zone or of an owner held.
    #[must_use]
    pub fn isolate(&self, pfn: Pfn) -> Option<Isolated<'_>> {
        isolated::isolate(self, pfn)
    }

    /// Moves isolated frames to targets that `targets` supplies. Frames that are still busy stay
    /// in `batch`: dropping them puts them back, another call tries again.
    ///
    /// Locking: call it with no lock of the zone or of an owner held.
    pub fn migrate_pages<'z>(
        &'z self,
        batch: &mut Vec<Isolated<'z>>,
        targets: &mut dyn Targets<'z>,
        mode: MigrateMode,
    ) -> Migration {
        pages::migrate_pages(self, batch, targets, mode)
    }

    /// Returns whether a frame in this state has an owner that can move it.
    pub(crate) fn can_move(&self, state: State) -> bool {
        self.moves_frames() && state.owner().is_some()
    }

    /// Returns how many frames are isolated now.
    #[must_use]
    pub fn isolated(&self) -> u64 {
        self.vmstat().nr_isolated
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

#[cfg(all(test, loom))]
mod tests {
    mod loom;
}
