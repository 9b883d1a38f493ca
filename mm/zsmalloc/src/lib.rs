//! A compacting pool of small objects with stable handles, after the Linux zsmalloc.
//!
//! Objects of 1 to 4096 bytes are sorted into size classes. A class packs its objects into *zspages*: up to 16 order-0 frames that need not be
//! neighbours and need not all be there. A [`Handle`] names an object for life while compaction moves it from sparse zspages into full ones
//! and gives the frames that become free back.
//!
//! ```
//! use std::sync::Arc;
//! use frames::{FrameCount, Zone, ZoneConfig};
//! use zsmalloc::{Budget, Pool, PoolConfig};
//!
//! let zone = Arc::new(Zone::new(ZoneConfig { capacity: FrameCount(4096), ..ZoneConfig::default() })?);
//! let pool = Pool::new(zone, PoolConfig::default())?;
//! let handle = pool.store(b"cold bytes")?;
//! pool.compact(&Budget::unlimited());
//! assert_eq!(pool.read(handle)?.to_vec(), b"cold bytes");
//! pool.free(handle)?;
//! assert!(pool.read(handle).is_err(), "a stale handle is a typed error, never someone else's object");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Why this way
//! - **Frames come and go one by one.** A long chain packs well but would leave a half-empty last zspage in every class; here a frame is attached
//!   when the first object reaches it and given back when its last object leaves.
//! - **A free map stands beside the zspage**, so a free touches no cold memory and a scan for objects is a scan of 256 bits.
//! - **Only readers ever wait for a chain's lock**, for one copy; everybody else tries and goes elsewhere. A thread that holds a read guard may
//!   call anything.
//!
//! # Locking
//! chain (readers shared, all others try) -> class -> handle shard -> frames. See `docs/locking.md`.
//!
//! # Invariants
//! - INV-POOL-1: a location word is live exactly while its object's bit is set in its zspage's map, apart from objects being born (bit set, chain
//!   exclusively held, word not yet published).
//! - INV-POOL-2: a location word changes from or to a zspage of a class only under that class's lock.
//! - INV-POOL-3: a frame whose bytes hold a live object is attached.
//! - INV-POOL-4: a zspage is on the list of its fullness group in its class, always.

#![forbid(unsafe_code)]

mod access;
mod background;
mod check;
mod class;
mod compact;
mod error;
mod free;
mod fullness;
mod gauge;
mod handle;
mod handles;
mod hold_time;
mod leak;
mod malloc;
mod map;
mod migrate;
mod object;
mod pool;
mod stats;
mod zpool;
mod zspage;

#[cfg(all(test, loom))]
mod loom_fixture;
#[cfg(all(test, loom))]
mod loom_migrate;
#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(any(loom, shuttle, miri))))]
mod memory_failure_tests;
#[cfg(all(test, not(any(loom, shuttle))))]
mod poison_tests;
#[cfg(all(test, not(any(loom, shuttle))))]
mod reuse_tests;
#[cfg(all(test, shuttle))]
mod shuttle_system_tests;
#[cfg(all(test, shuttle))]
mod shuttle_tests;

pub use access::ObjectRef;
pub use background::{
    Background, BackgroundConfig, BackgroundError, BackgroundState, BackgroundStats,
    DEFAULT_PROACTIVENESS, MAX_POLL_INTERVAL,
};
pub use check::CheckError;
pub use class::{ChainRule, SizeClass, SizeClasses};
pub use compact::{Compaction, CompactionOutcome, CompactionTotals};
pub use error::{AccessError, AllocError, PoolError, WriteError};
pub use frames::Budget;
pub use fullness::{FULLNESS_GROUPS, FullnessGroup};
pub use handle::Handle;
pub use hold_time::HoldTimes;
pub use leak::{DestroyError, Leaked, LeakedGroup};
pub use map::{MapMode, Mapped};
pub use pool::{Pool, PoolConfig};
pub use stats::{ClassStats, PoolStats};
pub use zpool::{EvictUnsupported, Zpool};

/// The longest object. Units: bytes.
pub const MAX_OBJECT: usize = frames::FRAME_SIZE;
