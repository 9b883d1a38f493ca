//! Memory goes back to the OS a bounded step at a time, whatever was freed at once.

#![cfg(not(any(loom, miri)))]
#![forbid(unsafe_code)]

use frames::{
    ContigRequest, FrameCount, MigrateType, Order, PAGEBLOCK_FRAMES, PAGEBLOCK_SIZE, Pfn,
    RELEASE_BATCH, Reclaim, Zone, ZoneConfig,
};
use std::sync::Arc;

fn zone(capacity: u64, keep_blocks: u32) -> Arc<Zone> {
    let config = ZoneConfig {
        capacity: FrameCount::holding(capacity),
        keep_blocks,
        ..ZoneConfig::default()
    };
    Arc::new(Zone::new(config).expect("address space"))
}

/// A thread that frees much, or comes by afterwards, asks the OS for a bounded number of
/// pageblocks; the rest goes with the next calls.
#[test]
fn a_free_releases_one_pageblock_and_leaves_the_rest() {
    const BLOCKS: u32 = 600;
    let zone = zone(u64::from(BLOCKS) * PAGEBLOCK_SIZE as u64, 2);
    let released = || zone.stats().blocks_released_total;
    let all = Pfn(0)..Pfn(BLOCKS * PAGEBLOCK_FRAMES);
    let contig = zone.alloc_contig_range(all, ContigRequest::default()).expect("an empty zone");
    assert_eq!(released(), 0);
    drop(contig);
    assert!(
        released() <= u64::from(RELEASE_BATCH),
        "the owner's drop released {} pageblocks",
        released()
    );
    let mut most = 0;
    for _ in 0..BLOCKS {
        let before = released();
        drop(zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).expect("room"));
        most = most.max(released() - before);
    }
    assert_eq!(most, u64::from(RELEASE_BATCH), "in one call");
    // Nobody works in the background here, and yet all but what is kept is gone.
    let held = zone.stats().committed.bytes();
    assert!(
        held <= zone.kept().bytes() + PAGEBLOCK_SIZE as u64,
        "the pageblock of a frame on a list besides: {held}"
    );
    assert_eq!(zone.kept().bytes(), 2 * PAGEBLOCK_SIZE as u64);
    zone.trim();
    assert!(zone.stats().committed.bytes() <= PAGEBLOCK_SIZE as u64, "a frame on a list at most");
    zone.check().expect("consistent");
}

/// A balloon's pageblocks are used, but nothing in them breathes: no memory is kept for them.
#[test]
fn what_is_kept_does_not_grow_with_a_balloon() {
    let zone = zone(1 << 30, 2);
    let block =
        || zone.alloc_owned_block(Order::PAGEBLOCK, MigrateType::Movable, Reclaim::NotAllowed);
    let balloon: Vec<_> = (0..384).map(|_| block().expect("room")).collect();
    assert_eq!(zone.kept().bytes(), 6 * PAGEBLOCK_SIZE as u64, "one for 64 in use");
    let account = zone.balloon_account();
    account.add(FrameCount::holding(384 * PAGEBLOCK_SIZE as u64));
    assert_eq!(zone.kept().bytes(), 2 * PAGEBLOCK_SIZE as u64);
    drop((account, balloon));
}
