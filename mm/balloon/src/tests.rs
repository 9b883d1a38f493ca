//! Unit tests on the real zone, and the functions they share. The host is a recorder, except where
//! memory must really leave the process.

mod inflate;
mod life;
mod memory;
mod migrate;
mod model;
mod oom;

use std::sync::Arc;

use frames::{Backing, Frame, FrameCount, MigrateType, Pfn, Reclaim, Zone, ZoneConfig};

use crate::test_host::RecordingHost;
use crate::{Balloon, BalloonConfig, BalloonUnit, StopReason};

/// Creates a zone on the heap.
fn zone_with(capacity: u64, change: impl FnOnce(&mut ZoneConfig)) -> Arc<Zone> {
    let (capacity, backing) = (FrameCount(capacity), Backing::Heap);
    let mut config = ZoneConfig { capacity, backing, ..ZoneConfig::default() };
    change(&mut config);
    Arc::new(Zone::new(config).expect("a small zone"))
}

/// Creates a zone with a limit.
fn zone_of(capacity: u64, limit: Option<u64>) -> Arc<Zone> {
    zone_with(capacity, |config| config.limit = limit.map(FrameCount))
}

/// Creates a zone of eight pageblocks without a limit.
fn zone() -> Arc<Zone> {
    zone_of(4096, None)
}

/// Creates a zone without movable frames.
fn still_zone() -> Arc<Zone> {
    zone_with(4096, |config| config.movability = frames::Movability::Off)
}

/// Creates an empty balloon with a recording host.
fn balloon_of(zone: &Arc<Zone>, unit: BalloonUnit) -> (Arc<Balloon>, Arc<RecordingHost>) {
    RecordingHost::of_balloon(zone, BalloonConfig { unit, ..BalloonConfig::default() })
}

/// Creates a balloon of `frames` frames with a recording host.
fn inflated(
    zone: &Arc<Zone>,
    unit: BalloonUnit,
    frames: u64,
) -> (Arc<Balloon>, Arc<RecordingHost>) {
    let (balloon, host) = balloon_of(zone, unit);
    assert_eq!(balloon.set_target(FrameCount(frames)).stop, StopReason::Reached);
    (balloon, host)
}

/// Allocates a movable frame.
fn one(zone: &Zone) -> Option<Frame<'_>> {
    zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok()
}

/// Returns the single frames that are not isolated, lowest first.
fn listed(balloon: &Balloon) -> Vec<Pfn> {
    balloon.inner.lock().list.iter().collect()
}

/// Checks what holds between operations.
fn check(balloon: &Balloon, host: &RecordingHost) {
    balloon.check().expect("consistent");
    assert_eq!(host.has(), balloon.ranges(), "R-158: the host has what the balloon holds");
    balloon.zone().check().expect("a consistent zone");
    assert!(
        balloon.zone().stats().ballooned >= balloon.stats().actual,
        "the zone counts the balloon's frames as ballooned"
    );
}

/// Migrates a frame to the lowest free one. Returns whether it was migrated.
fn move_one(zone: &Zone, pfn: Pfn) -> bool {
    let Some(isolated) = zone.isolate(pfn) else { return false };
    let mut batch = vec![isolated];
    zone.migrate_pages(&mut batch, &mut |_| one(zone), frames::MigrateMode::Async).migrated == 1
}
