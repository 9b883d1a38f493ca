//! A CMA region: which frames use it, and how a contiguous allocation takes it back.

#![cfg(not(loom))]
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "each test uses a part of it")]
mod driver;

use frames::{
    AllocError, Backing, CmaRegion, ContigRequest, FrameCount, MigrateType, Movability, Order,
    PAGEBLOCK_FRAMES, Pfn, Reclaim, Zone, ZoneConfig, ZoneError,
};

use driver::zones::take_block;
use driver::{Driver, compacted_block, zone_of_blocks};

const BLOCK: u32 = PAGEBLOCK_FRAMES;

/// a CMA region serves single movable frames, to the last one, and no other request. A
/// contiguous allocation takes it back.
#[test]
fn r112_only_movable_frames_use_a_cma_region() {
    let region = CmaRegion { first: Pfn(4 * BLOCK), frames: FrameCount((2 * BLOCK).into()) };
    let zone = zone_of_blocks(8, |config| config.cma = Some(region));
    let mut others = Vec::new();
    while let Ok(frame) = zone.alloc_frame(MigrateType::Unmovable, Reclaim::NotAllowed) {
        others.push(frame);
    }
    assert_eq!(others.len() as u32, 6 * BLOCK, "unmovable frames fill all but the region");
    for order in [Order::SINGLE, Order::new(3).expect("small"), Order::PAGEBLOCK, Order::MAX] {
        let refused = compacted_block(&zone, order, MigrateType::Unmovable);
        assert_eq!(refused.map(drop), Err(AllocError::NoFrames), "{order}");
    }
    // A block has no owner that could move it out of the region.
    assert_eq!(take_block(&zone, Order::PAGEBLOCK).map(drop), Err(AllocError::NoFrames));
    let driver = Driver::new(&zone);
    let pages = driver.fill();
    assert_eq!(pages.len() as u32, 2 * BLOCK, "the region is used to the last frame");
    zone.check().expect("consistent");
    // A contiguous request: the pages move to where unmovable frames were.
    others.truncate((4 * BLOCK) as usize);
    let contig = zone
        .alloc_contig_frames(region.frames, ContigRequest::default())
        .expect("its frames can move");
    assert_eq!(contig.first(), region.first, "the region is preferred");
    driver.check();
    drop(contig);
    zone.trim();
    let again = zone.alloc_contig_frames(FrameCount(10), ContigRequest::default()).expect("free");
    assert!((region.first.0..region.first.0 + 2 * BLOCK).contains(&again.first().0), "{again:?}");
}

/// The same in a zone without movable frames.
#[test]
fn r112_with_movability_off_the_region_stays_unused() {
    let region = CmaRegion { first: Pfn(0), frames: FrameCount((2 * BLOCK).into()) };
    let zone = zone_of_blocks(4, |config| {
        config.cma = Some(region);
        config.movability = Movability::Off;
    });
    let driver = Driver::new(&zone);
    assert_eq!(driver.fill().len() as u32, 2 * BLOCK);
    assert!(driver.places().iter().all(|pfn| pfn.0 >= 2 * BLOCK));
    zone.check().expect("consistent");
    assert!(zone.alloc_contig_frames(region.frames, ContigRequest::default()).is_ok());
}

#[test]
fn a_region_must_be_whole_pageblocks_of_the_zone() {
    let config = |first, frames| ZoneConfig {
        capacity: FrameCount((4 * BLOCK).into()),
        backing: Backing::Heap,
        cma: Some(CmaRegion { first: Pfn(first), frames: FrameCount(frames) }),
        ..ZoneConfig::default()
    };
    for (first, frames) in [(1, 512), (0, 100), (0, 5 * 512), (4 * 512, 512), (!511, !511)] {
        let refused = Zone::new(config(first, frames));
        assert!(matches!(refused, Err(ZoneError::Region { .. })), "{first} {frames}");
    }
    assert!(Zone::new(config(0, 4 * 512)).is_ok() && Zone::new(config(512, 0)).is_ok());
}
