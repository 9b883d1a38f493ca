//! Small pools on the heap, and what tests do beside them.

use std::sync::Arc;

use frames::{Backing, Frame, FrameCount, MigrateType, Reclaim, Zone, ZoneConfig};
use zsmalloc::{Pool, PoolConfig};

/// Creates an empty zone.
pub(crate) fn zone(frames: u64) -> Arc<Zone> {
    let capacity = FrameCount(frames);
    let config = ZoneConfig { capacity, backing: Backing::Heap, ..ZoneConfig::default() };
    Arc::new(Zone::new(config).expect("a small zone"))
}

/// Creates an empty pool in a zone. Its tables are on the heap, whatever `config` says.
pub(crate) fn pool_in(zone: &Arc<Zone>, config: PoolConfig) -> Arc<Pool> {
    let config = PoolConfig { backing: Backing::Heap, ..config };
    Pool::new(Arc::clone(zone), config).expect("a small pool")
}

/// Creates an empty pool in a zone of its own.
pub(crate) fn pool(frames: u64) -> Arc<Pool> {
    pool_in(&zone(frames), PoolConfig::default())
}

/// Allocates a movable frame, if one is free.
pub(crate) fn take(zone: &Zone) -> Option<Frame<'_>> {
    zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok()
}

/// Takes `count` frames, or as many as are free. The zone allocates its lowest frames first, so
/// those of a pool then lie above the first pageblock, where compaction never moves any.
pub(crate) fn occupy(zone: &Zone, count: usize) -> Vec<Frame<'_>> {
    std::iter::from_fn(|| take(zone)).take(count).collect()
}
