//! Counters of migration, compaction and reclaim, under the names of /proc/vmstat.

// Not the modelled atomics: statistics order nothing, and loom would explore every order of them.
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Declares [`VmStat`] and the counters behind it.
macro_rules! counters {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// Counts since the zone was created.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize))]
        pub struct VmStat {
            $($(#[$doc])+ pub $name: u64,)+
        }

        /// The counters behind [`VmStat`].
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(crate) struct Events {
            $(pub(crate) $name: AtomicU64,)+
        }

        impl Events {
            /// Returns the values of all counters.
            pub(super) fn vmstat(&self) -> VmStat {
                // Relaxed here and below: counters order nothing.
                VmStat { $($name: self.$name.load(Relaxed),)+ }
            }
        }
    };
}

counters! {
    /// Frames migrated.
    pgmigrate_success,
    /// Frames that could not be migrated.
    pgmigrate_fail,
    /// Frames that the migrate scanner visited.
    compact_migrate_scanned,
    /// Free frames that the free scanner took.
    compact_free_scanned,
    /// Frames isolated for compaction.
    compact_isolated,
    /// Compactions an allocation had to wait for.
    compact_stall,
    /// Compactions that did not reach their goal.
    compact_fail,
    /// Compactions that reached their goal.
    compact_success,
    /// How often background compaction started to work.
    compact_daemon_wake,
    /// Compactions that were deferred after failed ones.
    compact_deferred,
    /// How often the reclaim thread started to free memory.
    pageoutrun,
    /// How often a request had to free memory itself.
    allocstall,
    /// Frames that the reclaim thread freed.
    pgsteal_kswapd,
    /// Frames that requests freed.
    pgsteal_direct,
    /// Frames isolated now.
    nr_isolated,
}

impl Events {
    pub(crate) fn isolate(&self) {
        add(&self.nr_isolated, 1);
    }

    pub(crate) fn end_isolation(&self) {
        self.nr_isolated.fetch_sub(1, Relaxed);
    }
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Relaxed);
}
