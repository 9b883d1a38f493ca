//! Migration: moves the content of a frame to another frame while its owner and its readers keep
//! using it.
//!
//! An owner registers its [`MovableOps`] with the zone and [makes frames
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
//! puts it back. A [`LockedFrame`] is a guard that three of the callbacks get. A [`Target`] becomes
//! a [`Committed`] only by taking over the old frame's owner, and only a `Committed` reports
//! success. The kernel checks these rules with assertions; here a violation does not compile.
//!
//! # Reference counts (R-068)
//! | | old frame | new frame |
//! |---|---|---|
//! | before | 1, the owner's | 1, the target's |
//! | isolated | 2 | |
//! | committed | 1, the isolation's | 1, the owner's |
//! | done | 0, freed | 1 |
//! | again, failed, put back | 1 | 0, freed |
//! | the owner released it after isolation | 1, then 0, freed | 0, freed |
//!
//! # Locking
//! Each callback that gets a [`LockedFrame`] runs with the page lock of the old frame held. The
//! page lock is only tried, and only migration takes it: an owner releases a frame without it, in
//! one update of the state word, which migration finds when it reads the word again. No zone lock
//! is held during a callback (R-104), so callbacks may free and allocate.

mod isolated;
mod ops;
mod owner;
mod pages;
mod target;

pub use isolated::{Isolated, LockedFrame};
pub use ops::{MigrateError, MigrateMode, MovableOps};
pub(crate) use owner::Registry;
pub use owner::{Movability, Owner, OwnersExhausted, SetMovableError};
pub use pages::Migration;
pub(crate) use target::TargetCharge;
pub use target::{Committed, MigratedSource, Target, Targets};

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
