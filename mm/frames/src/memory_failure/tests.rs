//! Failures at moments that no caller can choose.

use std::sync::Arc;

use sync::atomic::Ordering::Relaxed;

use crate::{Backing, Frame, FrameCount, MigrateType, Reclaim, Zone, ZoneConfig};

fn zone() -> Arc<Zone> {
    let config = ZoneConfig {
        capacity: FrameCount(1024),
        lists: Some(1),
        backing: Backing::Heap,
        ..ZoneConfig::default()
    };
    Arc::new(Zone::new(config).expect("a small zone"))
}

fn take_all(zone: &Zone) -> Vec<Frame<'_>> {
    std::iter::from_fn(|| zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok())
        .collect()
}

/// S-38: a failed frame reaches a per-CPU list after the failures were processed.
#[test]
fn s38_a_failed_frame_on_a_list_is_not_allocated() {
    let zone = zone();
    let mut held: Vec<_> = take_all(&zone).into_iter().take(300).collect();
    let pfn = held[100].pfn();
    drop(held.swap_remove(100));
    assert!(zone.allocator().list(0).lock().frames(MigrateType::Movable).contains(&pfn));
    zone.tables().failed.note(pfn.index());
    zone.allocator().failures_seen.store(zone.failure_reports(), Relaxed);
    held.extend(take_all(&zone));
    assert!(held.iter().all(|frame| frame.pfn() != pfn));
    assert_eq!(held.len(), 1023);
    assert_eq!(zone.memory_failure_stats().recovered, FrameCount(1));
    drop(held);
    zone.check().expect("consistent");
}
