//! Failures at moments that no caller can choose.

use sync::atomic::Ordering::Relaxed;

use crate::zones::{take_all, zone_with};
use crate::{FrameCount, MigrateType};

/// S-38: a failed frame reaches a per-CPU list after the failures were processed.
#[test]
fn s38_a_failed_frame_on_a_list_is_not_allocated() {
    let zone = zone_with(1024, |config| config.lists = Some(1));
    let mut held: Vec<_> = take_all(&zone).into_iter().take(300).collect();
    let pfn = held[100].pfn();
    drop(held.swap_remove(100));
    assert!(zone.allocator().lists[0].lock().frames(MigrateType::Movable).contains(&pfn));
    zone.tables().failed.note(pfn.index());
    zone.allocator().failures_seen.store(zone.failure_reports(), Relaxed);
    held.extend(take_all(&zone));
    assert!(held.iter().all(|frame| frame.pfn() != pfn));
    assert_eq!(held.len(), 1023);
    assert_eq!(zone.memory_failure_stats().recovered, FrameCount(1));
    drop(held);
    zone.check().expect("consistent");
}
