//! Tests of whole pools, and the set-ups that all unit tests of the crate share.

#[cfg(all(test, loom))]
mod loom;
#[cfg(all(test, not(any(loom, shuttle, miri))))]
mod memory_failure;
#[cfg(all(test, not(any(loom, shuttle))))]
mod poison;
#[cfg(all(test, not(any(loom, shuttle))))]
mod reuse;
#[cfg(all(test, shuttle))]
mod shuttle;

use std::sync::Arc;

use frames::{FrameCount, Zone, ZoneConfig};
use sys::Backing;

use crate::{Pool, PoolConfig};

/// Returns an empty zone.
pub(crate) fn zone(frames: u64, backing: Backing) -> Arc<Zone> {
    let config = ZoneConfig { capacity: FrameCount(frames), backing, ..ZoneConfig::default() };
    Arc::new(Zone::new(config).expect("a small zone"))
}

/// Returns an empty pool whose tables are on the heap.
pub(crate) fn pool_in(zone: &Arc<Zone>, config: PoolConfig) -> Arc<Pool> {
    let config = PoolConfig { backing: Backing::Heap, ..config };
    Pool::new(Arc::clone(zone), config).expect("a small pool")
}

/// Returns an empty pool in a zone of its own, both on the heap.
#[cfg(not(any(loom, shuttle)))]
pub(crate) fn pool(frames: u64) -> Arc<Pool> {
    pool_in(&zone(frames, Backing::Heap), PoolConfig::default())
}
