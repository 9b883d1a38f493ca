//! An arena of 4 KiB frames: their owners, their free lists, and the only access to their bytes.
//!
//! - [`Zone`] allocates single [`Frame`]s and [`Block`]s of adjacent frames under a limit, and
//!   decommits free memory.
//! - [`FrameChains`] join up to [`MAX_CHAIN`] frames behind a reader-writer lock. All access to
//!   frame bytes goes through them.
//!
//! # Modules
//! Declared in the order of their layers: each uses only those above it.

mod geometry;
mod units;
mod budget;
mod error;
pub mod ids;
mod page;
mod buddy;
mod zone;
mod reclaim;
mod migrate;
mod compaction;
mod alloc;
mod chain;
mod memory_failure;
mod ballooned;

pub use ballooned::{BalloonAccount, DiscardError, OwnedBlock};
pub use buddy::ChargePurpose;
pub use budget::{Budget, Deadline};
pub use chain::*;
pub use compaction::{
    CompactGoal, CompactOutcome, CompactRequest, ContigError, ContigRange, ContigRequest,
    FrameCompaction, ProactiveCompactor, ProactiveOutcome, Proactiveness,
};
pub use error::{AllocError, CheckError, CmaRegion, PutError, ZoneError};
pub use geometry::{
    FRAME_SIZE, MAX_CHAIN, MAX_ORDER, PAGEBLOCK_FRAMES, PAGEBLOCK_ORDER, PAGEBLOCK_SIZE,
};
pub use memory_failure::{MemoryFailureStats, OfflineError};
pub use migrate::{
    Isolated, MigratedSource, Migration, Owner, OwnersExhausted, SetMovableError, Targets,
};
pub use page::OwnerId;
pub use reclaim::{Kswapd, KswapdError, ShrinkerRegistration};
pub use sys::Backing;
pub use units::{FrameCount, MigrateType, Order, Pfn};
pub use zone::{
    Block, BuddyInfo, Committed, Frame, KEEP_ONE_IN, LockedFrame, Lru, LruStats, MemoryUsage,
    MigrateError, MigrateMode, Movability, MovableOps, NoLocksHeld, OverLimit, PageLock,
    PageTypeInfo, Pressure, RELEASE_BATCH, Reclaim, Reservation, Shrinker, ShrinkerPriority,
    Target, VmStat, Watermarks, Zone, ZoneConfig, ZoneStats,
};

#[cfg(test)]
extern crate self as frames;

#[cfg(all(test, not(any(loom, shuttle, miri))))]
mod large_zone_tests;
#[cfg(all(test, not(any(loom, shuttle))))]
mod poison_tests;

/// The smallest owner of chains, for these unit tests and for those in `tests/`.
#[cfg(test)]
#[path = "../tests/driver/store.rs"]
#[cfg_attr(shuttle, expect(dead_code, reason = "models use a part of it"))]
mod store;

/// Small zones, for these unit tests and for those in `tests/`.
#[cfg(test)]
#[path = "../tests/driver/zones.rs"]
#[cfg_attr(any(loom, shuttle), expect(dead_code, reason = "models use a part of it"))]
mod zones;
