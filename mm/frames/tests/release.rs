//! Free memory is released to the OS, but not at every oscillation.

#![cfg(not(loom))]
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "each test uses a part of it")]
#[path = "driver/zones.rs"]
mod zones;

use std::sync::Arc;

use frames::{
    Backing, Budget, ChainKind, FRAME_SIZE, FrameChains, FrameCount, MigrateType, Order,
    OwnerWords, PAGEBLOCK_SIZE, Reclaim, Zone, ZoneConfig,
};

use zones::{take, take_block};

fn zone(capacity: u64, keep_blocks: u32) -> Arc<Zone> {
    let config = ZoneConfig {
        capacity: FrameCount::holding(capacity),
        keep_blocks,
        ..ZoneConfig::default()
    };
    Arc::new(Zone::new(config).expect("address space"))
}

#[test]
#[cfg_attr(miri, ignore = "reads procfs")]
fn freed_pageblocks_leave_the_resident_set() {
    const SIZE: u64 = 256 << 20;
    let zone = zone(1 << 40, 2);
    let chains = FrameChains::new(
        zone.reserve_owner().expect("the only one"),
        1 << 17,
        OwnerWords::default(),
        Backing::Anonymous,
    )
    .expect("address space");
    let start = resident();
    let ids: Vec<_> = (0..SIZE / FRAME_SIZE as u64)
        .map(|_| {
            let mut chain = chains.create(ChainKind::Single, 0).expect("numbers are left");
            chain.attach(0, Reclaim::NotAllowed).expect("frames are left");
            chain.pieces_mut(0..FRAME_SIZE).expect("attached").0.fill(0x5a);
            chain.id()
        })
        .collect();
    let full = resident();
    assert!(full - start >= SIZE as i64, "the bytes are resident: {start} {full}");
    assert!(full - start <= zone_bytes(&zone) + (4 << 20), "the zone counts its resident memory");
    // Every second frame first: nothing can be released. Then the rest.
    ids.iter().step_by(2).for_each(|&id| chains.try_exclusive(id).expect("idle").destroy());
    assert!(zone.stats().committed.bytes() >= SIZE);
    ids.iter().skip(1).step_by(2).for_each(|&id| chains.try_exclusive(id).expect("idle").destroy());
    // A thread that detaches frames may hold locks, so the OS is called here and not there.
    assert!(zone.stats().committed.bytes() >= SIZE);
    zone.release_excess(Budget::unlimited());
    let empty = resident();
    assert!(
        empty - start <= zone_bytes(&zone) + (4 << 20),
        "resident {start} -> {full} -> {empty}"
    );
    assert!(
        zone.stats().committed.bytes() <= 4 * PAGEBLOCK_SIZE as u64,
        "two are kept, and one has a stray frame"
    );
    zone.check().expect("consistent");
}

/// Frames on a per-CPU list keep their pageblock in use. Draining the lists sets the flag to
/// release it.
#[test]
fn draining_the_lists_releases_a_free_pageblock() {
    type Emptied = fn(&Zone);
    let refused: Emptied = |zone| {
        let all = zone.alloc_block(Order::PAGEBLOCK, MigrateType::Unmovable, Reclaim::NotAllowed);
        assert!(all.is_err());
    };
    let limited: Emptied = |zone| zone.set_limit(Some(FrameCount(100)));
    for (emptied, limit) in [(refused, Some(FrameCount(100))), (limited, None)] {
        let zone = zone(8 << 20, 0);
        zone.set_limit(limit);
        drop(take(&zone).expect("room"));
        assert_eq!(zone.stats().committed.bytes(), PAGEBLOCK_SIZE as u64);
        emptied(&zone);
        zone.release_excess_if_due();
        assert_eq!(zone.stats().committed, FrameCount(0));
    }
}

fn resident() -> i64 {
    i64::try_from(sys::rss::resident_bytes().expect("procfs")).expect("fits")
}

fn zone_bytes(zone: &Zone) -> i64 {
    let stats = zone.stats();
    i64::try_from(stats.committed.bytes() + stats.descriptor_bytes).expect("fits")
}

#[test]
fn an_oscillating_workload_releases_nothing() {
    let zone = zone(64 << 20, 2);
    let block = || take_block(&zone, Order::PAGEBLOCK).expect("free blocks");
    let _floor: Vec<_> = (0..4).map(|_| block()).collect();
    for _ in 0..50 {
        drop((block(), block()));
    }
    assert_eq!(zone.stats().blocks_released_total, 0);
    drop((block(), block(), block()));
    assert_eq!(zone.stats().blocks_released_total, 1, "only pageblocks beyond the kept ones");
}

#[test]
fn trim_releases_all_free_memory() {
    let zone = zone(64 << 20, 8);
    let held: Vec<_> = (0..6).map(|_| take_block(&zone, Order::PAGEBLOCK)).collect();
    drop(held);
    assert_eq!(zone.stats().committed.bytes(), 6 * PAGEBLOCK_SIZE as u64);
    zone.trim();
    let stats = zone.stats();
    assert_eq!((stats.committed.0, stats.blocks_released_total), (0, 6));
    zone.check().expect("consistent");
    let again = take(&zone).expect("free again");
    assert_eq!(again.pfn().0, 0, "the lowest frame is allocated first");
    zone.check().expect("consistent");
}

#[test]
fn the_highest_pageblocks_are_released_first() {
    let zone = zone(64 << 20, 1);
    let block = |_| take_block(&zone, Order::PAGEBLOCK).expect("free blocks");
    let mut held: Vec<_> = (0..6).map(block).collect();
    held.sort_by_key(|block| block.first());
    let top = held.pop().expect("six");
    drop(held);
    zone.check().expect("consistent");
    let kept = take(&zone).expect("kept");
    assert_eq!(kept.pfn().0, 0);
    drop(top);
}

#[test]
fn a_huge_capacity_costs_little() {
    if cfg!(miri) {
        return;
    }
    let zone = zone(1 << 40, 2);
    let stats = zone.stats();
    assert_eq!(stats.capacity.bytes(), 1 << 40);
    assert!(stats.descriptor_bytes < 16 << 10, "{} bytes of tables", stats.descriptor_bytes);
    assert_eq!(stats.committed.0, 0);
}
