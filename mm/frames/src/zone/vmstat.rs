//! Counters of migration, compaction and reclaim, under the names of /proc/vmstat.

// Not the modelled atomics: statistics order nothing, and loom would explore every order of them.
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Counts since the zone was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct VmStat {
    /// Frames migrated.
    pub pgmigrate_success: u64,
    /// Frames that could not be migrated.
    pub pgmigrate_fail: u64,
    /// Frames that the migrate scanner visited.
    pub compact_migrate_scanned: u64,
    /// Free frames that the free scanner took.
    pub compact_free_scanned: u64,
    /// Frames isolated for compaction.
    pub compact_isolated: u64,
    /// Compactions an allocation had to wait for.
    pub compact_stall: u64,
    /// Compactions that did not reach their goal.
    pub compact_fail: u64,
    /// Compactions that reached their goal.
    pub compact_success: u64,
    /// How often background compaction started to work.
    pub compact_daemon_wake: u64,
    /// Compactions that were deferred after failed ones.
    pub compact_deferred: u64,
    /// How often the reclaim thread started to free memory.
    pub pageoutrun: u64,
    /// How often a request had to free memory itself.
    pub allocstall: u64,
    /// Frames that the reclaim thread freed.
    pub pgsteal_kswapd: u64,
    /// Frames that requests freed.
    pub pgsteal_direct: u64,
    /// Frames isolated now.
    pub nr_isolated: u64,
}

/// The counters behind [`VmStat`].
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Events {
    // Relaxed throughout: counters order nothing.
    migrated: AtomicU64,
    not_migrated: AtomicU64,
    pub(crate) migrate_scanned: AtomicU64,
    pub(crate) free_scanned: AtomicU64,
    pub(crate) compact_isolated: AtomicU64,
    pub(crate) compact_stall: AtomicU64,
    pub(crate) compact_fail: AtomicU64,
    pub(crate) compact_success: AtomicU64,
    pub(crate) compact_daemon_wake: AtomicU64,
    pub(crate) compact_deferred: AtomicU64,
    pub(crate) pageoutrun: AtomicU64,
    pub(crate) allocstall: AtomicU64,
    pub(crate) pgsteal_kswapd: AtomicU64,
    pub(crate) pgsteal_direct: AtomicU64,
    isolated: AtomicU64,
}

impl Events {
    /// Counts one more isolated frame.
    pub(crate) fn isolate(&self) {
        self.isolated.fetch_add(1, Relaxed);
    }

    /// Counts one isolated frame less.
    pub(crate) fn end_isolation(&self) {
        self.isolated.fetch_sub(1, Relaxed);
    }

    /// Returns the number of isolated frames.
    pub(crate) fn isolated(&self) -> u64 {
        self.isolated.load(Relaxed)
    }

    /// Counts the frames of one migration.
    pub(crate) fn migrated(&self, success: u64, fail: u64) {
        add(&self.migrated, success);
        add(&self.not_migrated, fail);
    }
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Relaxed);
}

impl Events {
    /// Returns the values of all counters.
    pub(super) fn vmstat(&self) -> VmStat {
        let events = self;
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        VmStat {
            pgmigrate_success: get(&events.migrated),
            pgmigrate_fail: get(&events.not_migrated),
            compact_migrate_scanned: get(&events.migrate_scanned),
            compact_free_scanned: get(&events.free_scanned),
            compact_isolated: get(&events.compact_isolated),
            compact_stall: get(&events.compact_stall),
            compact_fail: get(&events.compact_fail),
            compact_success: get(&events.compact_success),
            compact_daemon_wake: get(&events.compact_daemon_wake),
            compact_deferred: get(&events.compact_deferred),
            pageoutrun: get(&events.pageoutrun),
            allocstall: get(&events.allocstall),
            pgsteal_kswapd: get(&events.pgsteal_kswapd),
            pgsteal_direct: get(&events.pgsteal_direct),
            nr_isolated: get(&events.isolated),
        }
    }
}
