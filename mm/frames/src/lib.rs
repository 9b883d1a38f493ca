//! An arena of 4 KiB frames: their owners, their free lists, and the only access to their bytes.
//!
//! - [`Zone`] allocates single [`Frame`]s and [`Block`]s of adjacent frames under a limit, and
//!   decommits free memory.
//! - [`FrameChains`] join up to [`MAX_CHAIN`] frames behind a reader-writer lock. All access to
//!   frame bytes goes through them.
//!
//! The modules, from the outermost to the innermost: per-CPU lists (`percpu`), the buddy allocator
//! (`buddy`, `freelist`), pageblocks (`pageblock`, `bitmap`), frame descriptors (`descriptor`,
//! `state`), and the bytes (`arena`). All metadata is in tables beside the arena and contains no
//! pointers.

mod arena;
mod ballooned;
mod bitmap;
mod buddy;
mod budget;
mod capture;
mod chain;
mod charge;
mod check;
mod compaction;
mod contig;
mod descriptor;
mod error;
mod events;
mod frame;
mod freelist;
mod geometry;
pub mod ids;
mod info;
mod kswapd;
mod lru;
mod memory_failure;
mod migrate;
mod over_limit;
mod pageblock;
mod percpu;
mod reclaim;
mod release;
mod reservation;
mod shrinker;
mod state;
mod stats;
mod tables;
mod units;
mod watermarks;
mod zone;
mod zone_config;
mod zone_lock;

pub use ballooned::{BalloonAccount, DiscardError, OwnedBlock};
pub use budget::{Budget, Deadline};
pub use chain::*;
pub use charge::{ChargePurpose, MemoryUsage};
pub use check::CheckError;
pub use compaction::{
    CompactGoal, CompactOutcome, CompactRequest, FrameCompaction, ProactiveCompactor,
    ProactiveOutcome, Proactiveness,
};
pub use contig::{ContigError, ContigRange, ContigRequest};
pub use error::{AllocError, PutError, ZoneError};
pub use events::VmStat;
pub use frame::{Block, Frame, PageLock};
pub use geometry::{
    FRAME_SIZE, MAX_CHAIN, MAX_ORDER, PAGEBLOCK_FRAMES, PAGEBLOCK_ORDER, PAGEBLOCK_SIZE,
};
pub use info::{BuddyInfo, PageTypeInfo};
pub use kswapd::{Kswapd, KswapdError};
pub use lru::{Lru, LruStats};
pub use memory_failure::{MemoryFailureStats, OfflineError};
pub use migrate::{
    Committed, Isolated, LockedFrame, MigrateError, MigrateMode, MigratedSource, Migration,
    Movability, MovableOps, Owner, OwnersExhausted, SetMovableError, Target, Targets,
};
pub use over_limit::OverLimit;
pub use reclaim::{NoLocksHeld, Reclaim};
pub use release::{KEEP_ONE_IN, RELEASE_BATCH};
pub use reservation::Reservation;
pub use shrinker::{Shrinker, ShrinkerPriority, ShrinkerRegistration};
pub use state::OwnerId;
pub use stats::ZoneStats;
pub use sys::Backing;
pub use units::{FrameCount, MigrateType, Order, Pfn};
pub use watermarks::{Pressure, Watermarks};
pub use zone::Zone;
pub use zone_config::{CmaRegion, ZoneConfig};

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
