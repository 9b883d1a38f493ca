//! What the balloon's tests share. They run on the real zone; only the host is a recorder, except where memory must really leave.

mod inflate;
mod life;
mod memory;
mod migrate;
mod model;
mod oom;

use std::sync::Arc;

use frames::{Backing, Frame, FrameCount, MigrateType, Pfn, Reclaim, Zone, ZoneConfig};

use crate::recording_host::RecordingHost;
use crate::{Balloon, BalloonConfig, BalloonUnit};

fn zone_of(capacity: u64, limit: Option<u64>) -> Arc<Zone> {
    let config = ZoneConfig {
        capacity: FrameCount(capacity),
        limit: limit.map(FrameCount),
        backing: Backing::Heap,
        ..ZoneConfig::default()
    };
    Arc::new(Zone::new(config).expect("a small zone"))
}

/// Eight pageblocks, no limit.
fn zone() -> Arc<Zone> {
    zone_of(4096, None)
}

/// A zone in which nothing moves.
fn still_zone() -> Arc<Zone> {
    let config = ZoneConfig {
        capacity: FrameCount(4096),
        backing: Backing::Heap,
        movability: frames::Movability::Off,
        ..ZoneConfig::default()
    };
    Arc::new(Zone::new(config).expect("a small zone"))
}

fn balloon_of(zone: &Arc<Zone>, unit: BalloonUnit) -> (Arc<Balloon>, Arc<RecordingHost>) {
    let host = Arc::new(RecordingHost::default());
    let config = BalloonConfig { unit, ..BalloonConfig::default() };
    let balloon = Balloon::new(Arc::clone(zone), host.clone(), config)
        .expect("a zone without owners has room");
    (balloon, host)
}

fn one(zone: &Zone) -> Option<Frame<'_>> {
    zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok()
}

/// The single frames that nobody has isolated, lowest first.
fn listed(balloon: &Balloon) -> Vec<Pfn> {
    balloon.inner.lock().list.iter().collect()
}

/// The equations that hold whenever nobody is inside.
fn check(balloon: &Balloon, host: &RecordingHost) {
    balloon.check().expect("consistent");
    assert_eq!(host.has(), balloon.ranges(), "R-158: the host has what the balloon holds");
    balloon.zone().check().expect("a consistent zone");
    assert!(
        balloon.zone().stats().ballooned >= balloon.stats().actual,
        "what the host has is not counted as held"
    );
}

/// Moves one frame to the lowest free one; whether it worked.
fn move_one(zone: &Zone, pfn: Pfn) -> bool {
    let Some(isolated) = zone.isolate(pfn) else { return false };
    let mut batch = vec![isolated];
    zone.migrate_pages(&mut batch, &mut |_| one(zone), frames::MigrateMode::Async).migrated == 1
}
