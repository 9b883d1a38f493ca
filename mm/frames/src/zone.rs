//! The zone: all frames of one arena, their owners, and the rules for allocating them.
//!
//! [`allocator`] takes and frees frames by itself; what calls owners when no frame is free is in
//! the modules after this one: reclaim, migration, compaction, and the allocation that uses them.

mod config;
mod pcp;
mod lock;
mod shrinker;
mod kswapd_state;
mod allocator;
mod drain;
mod decommit;
mod failed;
mod pressure;
mod lru;
mod locked;
mod target;
mod ops;
mod registry;
mod compact_state;
mod vmstat;

pub(crate) use allocator::FrameAllocator;
pub(crate) use compact_state::{CompactState, DeferDecision, ScanPosition};
pub use config::{Movability, ZoneConfig};
pub use decommit::{KEEP_ONE_IN, RELEASE_BATCH};
pub(crate) use drain::CpuListsState;
pub(crate) use kswapd_state::KswapdPhase;
pub use locked::LockedFrame;
pub(crate) use locked::{LruPlace, ReplacedBy};
pub(crate) use lru::LruLists;
pub use lru::{Lru, LruStats};
pub use ops::{MigrateMode, MovableOps};
pub use pressure::{Pressure, Watermarks};
pub(crate) use registry::{Callbacks, OWNERS, Registry};
pub(crate) use shrinker::Shrinkers;
pub use shrinker::{NoLocksHeld, Reclaim, Shrinker, ShrinkerPriority};
pub use target::{Committed, MigrateError, Target};
pub use vmstat::VmStat;
pub(crate) use vmstat::{Events, add};

use crate::buddy::Tables;
use crate::budget::Budget;
use crate::error::ZoneError;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::units::{FrameCount, Pfn};

/// An arena of frames, with everything needed to allocate and free them.
#[derive(Debug)]
pub struct Zone {
    allocator: FrameAllocator,
    movability: Movability,
    registry: Registry,
    shrinkers: Shrinkers,
    events: Events,
    compaction: CompactState,
}

impl Zone {
    /// Creates a zone of free frames. No frame is committed yet.
    ///
    /// # Errors
    /// [`ZoneError`] when the capacity or the CMA region is invalid, or the OS refuses the address
    /// space.
    pub fn new(config: ZoneConfig) -> Result<Self, ZoneError> {
        Ok(Self {
            allocator: FrameAllocator::new(config, size_of::<Self>() + Registry::bytes())?,
            movability: config.movability,
            registry: Registry::new(),
            shrinkers: Shrinkers::new(),
            events: Events::default(),
            compaction: CompactState::default(),
        })
    }

    /// Returns the number of frames of the arena.
    #[must_use]
    pub fn capacity(&self) -> FrameCount {
        self.allocator.capacity()
    }

    /// Sets the limit on frames in use. Above it, requests are refused until enough were freed.
    ///
    /// Locking: all locks of the zone for a moment, then as [`Zone::release_excess_if_due`].
    pub fn set_limit(&self, limit: Option<FrameCount>) {
        self.allocator.with_all_drained(|buddy| buddy.ledger.set_limit(limit));
        self.release_excess_if_due();
    }

    /// Returns whether a panic interrupted a change of the free lists. A poisoned zone allocates
    /// and moves nothing. Frames in use keep their bytes; those that are freed are lost.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.allocator.buddy.is_poisoned()
    }

    /// Drains the per-CPU lists, so that no stray frame pins a pageblock.
    ///
    /// Locking: one list after the other, each with the zone lock; then as
    /// [`Zone::release_excess_if_due`].
    pub fn drain(&self) {
        self.allocator.drain_lists_above(0);
        self.release_excess_if_due();
    }

    /// Decommits free pageblocks if there are more than the zone keeps, at most
    /// [`RELEASE_BATCH`], and wakes the reclaim thread if memory is short. Costs two loads if
    /// neither is the case. [`Zone::trim`] and [`Zone::release_excess`] decommit all of them.
    ///
    /// Freeing a frame of a chain only sets a flag: the caller holds locks, and the OS may block.
    /// Call this after releasing them.
    pub fn release_excess_if_due(&self) {
        self.wake_kswapd();
        self.allocator.release_excess_if_due();
    }

    /// Wakes the kswapd thread if it has work. One load if it has none.
    ///
    /// Allocating under a lock only sets a flag. The caller holds no lock of a class, a shard or
    /// the zone.
    pub fn wake_kswapd(&self) {
        self.allocator.wake_kswapd();
    }

    /// Releases the memory of every free pageblock to the OS now.
    ///
    /// Locking: the per-CPU lists, one after the other, and the zone lock, in short turns.
    pub fn trim(&self) {
        self.allocator.drain_lists_above(0);
        while self.allocator.release_one(|_| self.tables().idle.highest()) {}
    }

    /// Releases free pageblocks to the OS, for a background thread, until only the kept ones are
    /// left or the budget runs out. Returns the number of frames released.
    ///
    /// Locking: the zone lock, in short turns; the OS is called without it.
    pub fn release_excess(&self, budget: Budget) -> FrameCount {
        self.allocator.release_until(budget.start())
    }

    /// Returns the most free frames that keep their memory. [`Zone::trim`] leaves none.
    ///
    /// Locking: takes the zone lock.
    #[must_use]
    pub fn kept(&self) -> FrameCount {
        let kept = self.allocator.read_buddy(|buddy| self.allocator.kept_blocks(buddy));
        FrameCount(u64::from(kept) * u64::from(PAGEBLOCK_FRAMES))
    }

    /// Returns whether the memory of a frame has failed. If not, bytes read before were valid.
    #[must_use]
    pub fn has_failed(&self, pfn: Pfn) -> bool {
        self.allocator.has_failed(pfn)
    }

    /// Returns how often memory of the zone was reported as failed. One load.
    #[must_use]
    pub fn failure_reports(&self) -> u64 {
        self.allocator.tables.failed.reports()
    }

    /// Returns the counters of migration, compaction and reclaim, not as a snapshot of one moment.
    #[must_use]
    pub fn vmstat(&self) -> VmStat {
        self.events.vmstat()
    }

    /// Returns the watermarks for the frames this zone may use now.
    ///
    /// Locking: the zone lock.
    #[must_use]
    pub fn watermarks(&self) -> Watermarks {
        Watermarks::of(self.allocator.read_buddy(|buddy| self.allocator.usable_and_free(buddy).0))
    }

    /// Returns how short this zone's memory is. Frames on per-CPU lists count as used.
    ///
    /// Locking: the zone lock.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        let (usable, free) =
            self.allocator.read_buddy(|buddy| self.allocator.usable_and_free(buddy));
        Watermarks::of(usable).pressure(free)
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn shrinkers(&self) -> &Shrinkers {
        &self.shrinkers
    }

    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    pub(crate) fn compaction(&self) -> &CompactState {
        &self.compaction
    }

    pub(crate) fn allocator(&self) -> &FrameAllocator {
        &self.allocator
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.allocator.tables
    }

    /// Returns whether frames of registered owners move.
    pub(crate) fn moves_frames(&self) -> bool {
        self.movability == Movability::On
    }
}

// These use `Zone`.
mod frame;
mod charge;
mod reservation;
mod stats;
mod info;
mod check;

pub use charge::MemoryUsage;
pub use frame::{Block, Frame, PageLock};
pub use info::{BuddyInfo, PageTypeInfo};
pub use reservation::{OverLimit, Reservation};
pub use stats::ZoneStats;

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod tests {
    mod loom;
}
