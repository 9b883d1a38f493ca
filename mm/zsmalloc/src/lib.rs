//! A compacting pool of small objects with stable handles, after the Linux zsmalloc.
//!
//! Objects of 1 to 4096 bytes belong to size classes. A class packs its objects into *zspages* of
//! up to 16 order-0 frames. The frames of a zspage need not be contiguous and need not all be
//! attached. A [`Handle`] names an object for its whole life. Compaction moves objects from
//! sparse zspages into full ones and frees the frames it empties.
//!
//! ```
//! use std::sync::Arc;
//! use frames::{FrameCount, Zone, ZoneConfig};
//! use zsmalloc::{Budget, Pool, PoolConfig};
//!
//! let config = ZoneConfig { capacity: FrameCount(4096), ..ZoneConfig::default() };
//! let zone = Arc::new(Zone::new(config)?);
//! let pool = Pool::new(zone, PoolConfig::default())?;
//! let handle = pool.store(b"cold bytes")?;
//! pool.compact(&Budget::unlimited());
//! assert_eq!(pool.read(handle)?.to_vec(), b"cold bytes");
//! pool.free(handle)?;
//! assert!(pool.read(handle).is_err(), "a stale handle is a typed error, never another object");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Locking
//! chain (readers share and wait, all others only try) -> class -> handle shard -> frames. See
//! `docs/locking.md`. A thread that holds a read guard may call any function.
//!
//! # Invariants
//! - INV-POOL-1: a location word is live exactly while its object's bit is set in its zspage's
//!   map. The exception is an unpublished object: its bit is set, its chain is held exclusively
//!   and its word is not yet published.
//! - INV-POOL-2: a location word changes from or to a zspage of a class only under the lock of
//!   that class.
//! - INV-POOL-3: a frame whose bytes hold a live object is attached.
//! - INV-POOL-4: a zspage is on the list of its fullness group in its class, always.

#![forbid(unsafe_code)]

// Plain data and tables.
mod error;
mod class;
mod handle;
mod handles;
mod object;
mod zspage;
// The pool: what is kept of each class and of the whole.
mod class_state;
mod hold_time;
mod stats;
mod pool;
// Objects: found, freed, stored, read and overwritten.
mod locate;
mod check;
mod free;
mod alloc;
mod access;
mod zpool;
// Objects and frames that move, on request, for the zone and in the background.
mod compact;
mod migrate;
mod background;
// Creation and end of a pool.
mod lifecycle;

#[cfg(test)]
mod tests;

pub use access::ObjectRef;
pub use background::{Background, BackgroundConfig, BackgroundError};
pub use check::CheckError;
pub use class::{ChainRule, MAX_OBJECT, SizeClass, SizeClasses};
pub use error::{AccessError, AllocError, PoolError, WriteError};
pub use frames::Budget;
pub use handle::Handle;
pub use hold_time::HoldTimes;
pub use lifecycle::DestroyError;
pub use pool::{Leaked, LeakedGroup, Pool, PoolConfig};
pub use stats::{
    BackgroundState, BackgroundStats, ClassStats, Compaction, CompactionOutcome, CompactionTotals,
    PoolStats,
};
pub use zpool::{EvictUnsupported, MapMode, Mapped, Zpool};
pub use zspage::{FULLNESS_GROUPS, FullnessGroup};
