//! A zone whose memory was touched, so that there is something to give away.

use std::sync::Arc;

use balloon::{Balloon, BalloonConfig, BalloonUnit, OsHost, StopReason};
use frames::{
    Backing, ChainKind, FRAME_SIZE, FrameChains, FrameCount, MigrateType, OwnerWords, Reclaim,
    Zone, ZoneConfig,
};

/// A zone that keeps the memory of all free pageblocks, so that only the balloon can be what gives it away.
pub fn zone(bytes: u64) -> Arc<Zone> {
    let config = ZoneConfig {
        capacity: FrameCount::holding(bytes),
        keep_blocks: u32::MAX,
        backing: Backing::Anonymous,
        ..ZoneConfig::default()
    };
    Arc::new(Zone::new(config).expect("address space"))
}

/// Writes so many bytes into frames and frees them again.
pub fn touch(zone: &Arc<Zone>, bytes: u64, byte: u8) {
    let owner = zone.reserve_owner().expect("a number");
    let chains = FrameChains::new(owner, 1 << 19, OwnerWords::default(), Backing::Anonymous)
        .expect("address space");
    let ids: Vec<_> = (0..bytes / FRAME_SIZE as u64)
        .map(|_| {
            let mut chain = chains.create(ChainKind::Single, 0).expect("numbers are left");
            chain.attach(0, Reclaim::NotAllowed).expect("frames are left");
            chain.pieces_mut(0..FRAME_SIZE).expect("attached").0.fill(byte);
            chain.id()
        })
        .collect();
    ids.iter().for_each(|&id| chains.try_exclusive(id).expect("nobody is inside").destroy());
    zone.drain();
}

pub fn balloon(zone: &Arc<Zone>, unit: BalloonUnit) -> Arc<Balloon> {
    let config = BalloonConfig { unit, ..BalloonConfig::default() };
    Balloon::new(Arc::clone(zone), Arc::new(OsHost), config).expect("a number is left")
}

/// A balloon of so many bytes in single frames, above as many free ones: compaction will move it down.
pub fn high_balloon(zone: &Arc<Zone>, bytes: u64) -> Arc<Balloon> {
    let frames = FrameCount::holding(bytes);
    let below: Vec<_> = (0..frames.0)
        .map(|_| zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).expect("free frames"))
        .collect();
    let balloon = balloon(zone, BalloonUnit::Frames);
    assert_eq!(balloon.set_target(frames).stop, StopReason::Reached);
    drop(below);
    balloon
}
