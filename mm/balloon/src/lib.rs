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
//! [`Auto`] is a thread that follows memory pressure; [`policy`] decides, as a pure function.
//!
//! # Blocks first
//! The balloon takes whole pageblocks while there are any: breaking up a huge page for 4 KiB costs
//! more than it gains, and khugepaged may fill the hole again. It takes single frames for the
//! remainder, in arenas without whole free blocks, and for [`BalloonUnit::Frames`]. Single frames
//! are movable: frame compaction moves them without a copy, as they have no content.
//!
//! # Committed frames first
//! An untouched frame holds no memory, so ballooning it frees none. A balloon therefore takes
//! committed frames first, and then untouched ones only for [`BalloonSource::FreeFrames`]. That
//! keeps the store below its limit by that much.
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
//! itself (S-41). The *pages lock* guards the records. Allocation takes neither (R-151).
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

mod frame_set;
mod host;
mod report;
mod reentrancy;
mod inner;
mod balloon;
pub mod policy;
mod allocate;
mod resize;
#[cfg(not(any(loom, shuttle)))]
mod auto;
mod check;
mod movable;

#[cfg(not(any(loom, shuttle)))]
pub use auto::{Auto, AutoError, AutoState};
pub use balloon::{Balloon, BalloonConfig, BalloonError, BalloonSource, BalloonUnit};
pub use check::CheckError;
pub use host::{FrameRange, Host, InflateBatch, InflateError, OsHost};
pub use report::{BalloonStats, ResizeReport, Shortage, StopReason};
pub use resize::Resize;

/// The most ranges in one message to the host.
pub const MAX_BATCH: usize = if cfg!(loom) { 2 } else { 256 };

#[cfg(test)]
mod test_host;
#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

#[cfg(all(test, any(loom, shuttle)))]
mod tests {
    #[cfg(loom)]
    mod loom;
    #[cfg(shuttle)]
    mod shuttle;
}
