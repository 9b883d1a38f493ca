//! Zones with touched memory, for tests and examples that balloon it.

use std::sync::Arc;

use balloon::{Balloon, BalloonConfig, BalloonUnit, OsHost, StopReason};
use frames::{
    Backing, ChainKind, FRAME_SIZE, FrameChains, FrameCount, MigrateType, OwnerWords, Reclaim,
    Zone, ZoneConfig,
};

/// Creates a zone that keeps all free pageblocks committed, so that only the balloon decommits
/// memory.
pub(crate) fn zone(bytes: u64) -> Arc<Zone> {
    let config = ZoneConfig {
        capacity: FrameCount::holding(bytes),
        keep_blocks: u32::MAX,
        backing: Backing::Anonymous,
        ..ZoneConfig::default()
    };
    Arc::new(Zone::new(config).expect("address space"))
}

/// Writes `bytes` bytes into frames and frees them again.
pub(crate) fn touch(zone: &Arc<Zone>, bytes: u64, byte: u8) {
    let owner = zone.reserve_owner().expect("an owner ID is left");
    let chains = FrameChains::new(owner, 1 << 19, OwnerWords::default(), Backing::Anonymous)
        .expect("address space");
    let ids: Vec<_> = (0..bytes / FRAME_SIZE as u64)
        .map(|_| {
            let mut chain = chains.create(ChainKind::Single, 0).expect("a chain ID is left");
            chain.attach(0, Reclaim::NotAllowed).expect("frames are left");
            chain.pieces_mut(0..FRAME_SIZE).expect("attached").0.fill(byte);
            chain.id()
        })
        .collect();
    ids.iter().for_each(|&id| chains.try_exclusive(id).expect("no other thread has it").destroy());
    zone.drain();
}

/// Creates an empty balloon for the OS.
pub(crate) fn balloon(zone: &Arc<Zone>, unit: BalloonUnit) -> Arc<Balloon> {
    let config = BalloonConfig { unit, ..BalloonConfig::default() };
    Balloon::new(Arc::clone(zone), Arc::new(OsHost), config).expect("an owner ID is left")
}

/// Creates a balloon of `bytes` bytes in single frames above as many free ones, so that compaction
/// moves it down.
pub(crate) fn high_balloon(zone: &Arc<Zone>, bytes: u64) -> Arc<Balloon> {
    let frames = FrameCount::holding(bytes);
    let below: Vec<_> = (0..frames.0)
        .map(|_| zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).expect("free frames"))
        .collect();
    let balloon = balloon(zone, BalloonUnit::Frames);
    assert_eq!(balloon.set_target(frames).stop, StopReason::Reached);
    drop(below);
    balloon
}
