//! Migration: a frame's content moves to another frame while its owner and everybody who uses it go on.
//!
//! An owner registers its [`MovableOps`] with the zone and lets frames be [adopted](Owner::set_movable) under its number. From then on anybody may ask
//! for one of them to be moved:
//!
//! ```text
//!                      Zone::isolate                    MovableOps::migrate
//!   in use, movable ----------------> Isolated -------------------------------> the new frame has the owner,
//!        ^                               |        |                             the old one is freed
//!        |   dropped: MovableOps::putback|        | the owner let go meanwhile
//!        +-------------------------------+        +---> freed, nothing moved
//! ```
//!
//! Types carry the protocol. An [`Isolated`] frame is a value: it is migrated, or it puts itself back when it is dropped. A [`LockedFrame`] is a
//! guard, and the three callbacks get one. A [`Target`] can be turned into a [`Committed`] only by giving it the old frame's owner, and only a
//! `Committed` says success: what the kernel checks with assertions does not compile here.
//!
//! # The ledger (R-068)
//! | | old frame | new frame |
//! |---|---|---|
//! | before | 1, the owner's | 1, the target's |
//! | isolated | 2 | |
//! | accepted | 1, the isolation's | 1, the owner's |
//! | done | 0, freed | 1 |
//! | again, failed, put back | 1 | 0, freed |
//! | the owner let go after isolation | 1, then 0, freed | 0, freed |
//!
//! # Locking
//! The page lock of the old frame is held during each callback. It is only tried, or waited for a bounded time in the modes that may wait, and nobody but
//! migration takes it: an owner lets go of a frame without it, in one step that the next look at the state word finds. No zone lock is held
//! during a callback (R-104), so callbacks may free and allocate.

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
