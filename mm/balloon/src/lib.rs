//! The balloon: memory goes out of an arena to the host and comes back, by hand or as memory pressure asks.
//!
//! ```text
//!          Zone                         Balloon                          Host
//!   free blocks of 2 MiB  --alloc-->  blocks  (stay where they are)  --inflate-->   the OS, a hypervisor,
//!   free frames of 4 KiB  --alloc-->  list    (move like any other)  --inflate-->   a recorder in tests
//!          ^                             |
//!          +--------- free <-------------+        after  <--deflate--
//! ```
//! The zone sees an owner like any other: what the balloon has, others cannot have. So a limit on the zone counts the balloon in, and a larger balloon
//! means less room for the store; caches and compaction give way first. The memory below the frames is the host's: with [`OsHost`] it has left the
//! process, and comes back as zeros.
//!
//! - [`Balloon`]: a target and what became of it ([`ResizeReport`]); [`BalloonStats`].
//! - [`Host`]: who gets the memory, told in batches of at most [`MAX_BATCH`] ranges ([`InflateBatch`], [`FrameRange`]).
//! - [`Auto`]: a thread that follows memory pressure; [`policy`] decides, and is a pure function.
//!
//! # Blocks first
//! Whole pageblocks are taken as long as there are any: breaking a huge page up for 4 KiB costs more than it gives, and khugepaged may fill
//! such a hole again. Single frames are for what is left, for arenas without whole free blocks, and for machines without huge pages ([`BalloonUnit::Frames`]).
//! They are movable, so they stand in nobody's way: frame compaction moves a ballooned frame without copying it, since it contains nothing.
//!
//! # Memory first
//! A frame that was never used holds no memory, and lending it frees none. So a balloon takes what the zone holds and nobody uses first: whole blocks, then
//! blocks that compaction makes out of scattered frames, then scattered frames. Only then does it take room that holds nothing, which keeps a store below
//! its limit by that much ([`BalloonSource::FreeFrames`]), or it ends there ([`BalloonSource::CommittedFrames`]). What the zone still holds is told by its own
//! figures: `committed - ballooned` of [`ZoneStats`](frames::ZoneStats).
//!
//! # Order of messages
//! A batch is the balloon's before the host hears of it, and free after the host has given it back (R-160). A frame that moves is inflated at
//! its new place before it is deflated at the old one (R-157). So the host never has less than was promised, and what it has is what the balloon
//! holds whenever nobody is inside (R-158).
//!
//! # Locking
//! Two locks, see docs/locking.md. The *device lock* keeps messages to the host in order and is held while the host is told; migration only tries
//! it, so a host whose work makes the zone compact does not wait for itself (S-41). The *pages lock* guards what is held, is taken after a page lock, and
//! nothing is called under it but the zone's single steps on a frame. Allocation happens before either is taken (R-151).
//!
//! # Example
//! ```
//! use std::sync::Arc;
//!
//! use balloon::{Balloon, BalloonConfig, OsHost, StopReason};
//! use frames::{FrameCount, Zone, ZoneConfig};
//!
//! let zone = Zone::new(ZoneConfig { capacity: FrameCount::holding(64 << 20), ..ZoneConfig::default() })?;
//! let balloon = Balloon::new(Arc::new(zone), Arc::new(OsHost), BalloonConfig::default())?;
//!
//! let change = balloon.set_target(FrameCount::holding(16 << 20));
//! assert_eq!((change.stop, change.actual.bytes()), (StopReason::Reached, 16 << 20));
//! assert_eq!(balloon.stats().blocks, 8);
//!
//! // More than there is: cut down to what the zone can do without.
//! assert!(balloon.set_target(FrameCount::holding(1 << 40)).is_capped());
//! assert_eq!(balloon.deflate().actual, FrameCount(0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod adjust;
mod allocate;
#[cfg(not(any(loom, shuttle)))]
mod auto;
mod balloon;
mod check;
mod config;
mod frame_set;
mod host;
mod inner;
mod movable;
mod outcome;
pub mod policy;
mod reentrancy;
mod stats;

#[cfg(not(any(loom, shuttle)))]
pub use auto::{Auto, AutoError, AutoState};
pub use balloon::{Balloon, Resize};
pub use check::CheckError;
pub use config::{BalloonConfig, BalloonError, BalloonSource, BalloonUnit};
pub use host::{FrameRange, Host, InflateBatch, InflateError, OsHost};
pub use outcome::{ResizeReport, Shortage, StopReason};
pub use stats::BalloonStats;

/// The most ranges the host is told about in one message.
pub const MAX_BATCH: usize = if cfg!(loom) { 2 } else { 256 };

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(test)]
mod recording_host;
#[cfg(all(test, shuttle))]
mod shuttle_tests;
#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
