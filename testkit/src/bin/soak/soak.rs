//! What all threads of the soak share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use frames::{FrameCount, Zone, ZoneConfig};

use crate::counters::Counters;
use crate::pool_slot::PoolSlot;

/// Number of pools in the zone.
const POOLS: usize = 3;

/// State shared by all threads.
pub(crate) struct Soak {
    pub(crate) zone: Arc<Zone>,
    pub(crate) slots: Vec<PoolSlot>,
    pub(crate) counters: Counters,
    /// Held shared by threads that may run the zone's shrinkers, and exclusively while a pool's
    /// invariants are checked.
    pub(crate) shrinking: RwLock<()>,
    pub(crate) stop: AtomicBool,
    pub(crate) seed: u64,
}

impl Soak {
    /// Creates a zone with this limit, and its pools.
    pub(crate) fn new(limit: FrameCount, seed: u64) -> Self {
        // The arena is larger than the limit, so that the limit refuses requests first.
        let config = ZoneConfig {
            capacity: FrameCount(limit.0 * 2),
            limit: Some(limit),
            ..ZoneConfig::default()
        };
        let zone =
            Arc::new(Zone::new(config).expect("the address space suffices for a small zone"));
        let slots = (0..POOLS).map(|_| PoolSlot::new(&zone)).collect();
        Self {
            zone,
            slots,
            counters: Counters::default(),
            shrinking: RwLock::new(()),
            stop: AtomicBool::new(false),
            seed,
        }
    }

    /// Returns whether the threads end.
    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
