//! Memory is released to the OS in bounded steps, however much was freed at once.

#![cfg(not(any(loom, miri)))]
#![forbid(unsafe_code)]

use std::sync::Arc;

use frames::{
    ContigRequest, FrameCount, MigrateType, Order, PAGEBLOCK_FRAMES, PAGEBLOCK_SIZE, Pfn,
    RELEASE_BATCH, Reclaim, Zone, ZoneConfig,
};

fn zone(capacity: u64, keep_blocks: u32) -> Arc<Zone> {
    let config = ZoneConfig {
        capacity: FrameCount::holding(capacity),
        keep_blocks,
        ..ZoneConfig::default()
    };
    Arc::new(Zone::new(config).expect("address space"))
}

/// Each call that frees memory, and each later one, releases a bounded number of pageblocks.
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
    // All but the kept pageblocks are released without a background thread.
    let held = zone.stats().committed.bytes();
    assert!(
        held <= zone.kept().bytes() + PAGEBLOCK_SIZE as u64,
        "at most one more, of a frame on a list: {held}"
    );
    assert_eq!(zone.kept().bytes(), 2 * PAGEBLOCK_SIZE as u64);
    zone.trim();
    assert!(zone.stats().committed.bytes() <= PAGEBLOCK_SIZE as u64, "a frame on a list at most");
    zone.check().expect("consistent");
}

/// A balloon's pageblocks are in use, but not by a workload: no memory is kept for them.
#[test]
fn kept_memory_does_not_grow_with_a_balloon() {
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
