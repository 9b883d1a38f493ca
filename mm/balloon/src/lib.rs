//! A memory balloon: takes frames out of an arena, gives their memory to a host and takes it back,
//! on request or by memory pressure.
//!
//! ```text
//!         Zone                      Balloon                    Host
//!   free blocks of 2 MiB  --alloc-->  blocks (not movable)  --inflate-->  the OS, a hypervisor,
//!   free frames of 4 KiB  --alloc-->  list   (movable)      --inflate-->  a recorder in tests
//!          ^                             |
//!          +--------- free <-------------+       after  <--deflate--
//! ```
//! The balloon is an owner of frames like any other: frames it has are not available to others. A
//! limit on the zone includes the balloon, so a larger balloon leaves less room to the store;
//! shrinkers and compaction free frames first. The host has the memory of the frames: with
//! [`OsHost`] it has left the process, and comes back as zeros.
//!
//! - [`Balloon`]: sets a target and reports the result ([`ResizeReport`], [`BalloonStats`]).
//! - [`Host`]: receives the memory in batches of at most [`MAX_BATCH`] ranges ([`InflateBatch`],
//!   [`FrameRange`]).
//! - [`Auto`]: a thread that follows memory pressure; [`policy`] decides, as a pure function.
//!
//! # Blocks first
//! The balloon takes whole pageblocks while there are any: breaking up a huge page for 4 KiB costs
//! more than it gains, and khugepaged may fill the hole again. It takes single frames for the
//! remainder, in arenas without whole free blocks, and on machines without huge pages
//! ([`BalloonUnit::Frames`]). Single frames are movable: frame compaction moves a ballooned frame
//! without copying it, since it has no content.
//!
//! # Committed frames first
//! An untouched frame holds no memory, so ballooning it frees none. A balloon therefore takes
//! committed frames first: whole blocks, then blocks that compaction frees, then scattered frames.
//! With [`BalloonSource::FreeFrames`] it then takes untouched frames, which keeps the store below
//! its limit by that much; with [`BalloonSource::CommittedFrames`] it stops. The zone's remaining
//! memory is `committed - ballooned` of [`ZoneStats`](frames::ZoneStats).
//!
//! # Order of messages
//! A batch belongs to the balloon before the host is told, and is freed after the host has given it
//! back (R-160). A moved frame is inflated at its new place before it is deflated at the old one
//! (R-157). So the host never has less than was promised, and between operations it has exactly the
//! balloon's frames (R-158).
//!
//! # Locking
//! Two locks, see docs/locking.md. The *device lock* orders the messages and is held while the host
//! is called. Migration only tries it, so a host that makes the zone compact does not wait for
//! itself (S-41). The *pages lock* guards the records and is taken after a page lock; only single
//! steps on a frame's state are called under it. Allocation takes neither (R-151).
//!
//! # Example
//! ```
//! use std::sync::Arc;
//!
//! use balloon::{Balloon, BalloonConfig, OsHost, StopReason};
//! use frames::{FrameCount, Zone, ZoneConfig};
//!
//! let capacity = FrameCount::holding(64 << 20);
//! let zone = Zone::new(ZoneConfig { capacity, ..ZoneConfig::default() })?;
//! let balloon = Balloon::new(Arc::new(zone), Arc::new(OsHost), BalloonConfig::default())?;
//!
//! let change = balloon.set_target(FrameCount::holding(16 << 20));
//! assert_eq!((change.stop, change.actual.bytes()), (StopReason::Reached, 16 << 20));
//! assert_eq!(balloon.stats().blocks, 8);
//!
//! // A target above the maximum is reduced to it.
//! assert!(balloon.set_target(FrameCount::holding(1 << 40)).is_capped());
//! assert_eq!(balloon.deflate().actual, FrameCount(0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod config;
mod frame_set;
mod host;
mod outcome;
pub mod policy;
mod reentrancy;
mod stats;
mod inner;
mod balloon;
mod allocate;
mod adjust;
mod resize;
#[cfg(not(any(loom, shuttle)))]
mod auto;
mod check;
mod movable;

#[cfg(not(any(loom, shuttle)))]
pub use auto::{Auto, AutoError, AutoState};
pub use balloon::Balloon;
pub use check::CheckError;
pub use config::{BalloonConfig, BalloonError, BalloonSource, BalloonUnit};
pub use host::{FrameRange, Host, InflateBatch, InflateError, OsHost};
pub use outcome::{ResizeReport, Shortage, StopReason};
pub use resize::Resize;
pub use stats::BalloonStats;

/// The most ranges in one message to the host.
pub const MAX_BATCH: usize = if cfg!(loom) { 2 } else { 256 };

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(test)]
mod test_host;
#[cfg(all(test, shuttle))]
mod shuttle_tests;
#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
