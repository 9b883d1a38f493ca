//! Frames whose memory fails, reported by the kernel's signals.

#![cfg(not(any(loom, shuttle, miri)))]
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "each test uses a part of it")]
#[path = "driver/store.rs"]
mod store;

use std::sync::Arc;

use frames::{
    Backing, ChainKind, CompactRequest, ContigError, ContigRequest, FRAME_SIZE, Frame, FrameCount,
    MemoryFailureStats, MigrateType, OfflineError, Order, PAGEBLOCK_FRAMES, Pfn, Reclaim, Zone,
    ZoneConfig,
};
use sys::memory_failure::{Injection, catch_memory_failures};

use store::Store;

const FRAMES: u64 = 1024;

fn zone() -> Arc<Zone> {
    catch_memory_failures().expect("a handler");
    let config =
        ZoneConfig { capacity: FrameCount(FRAMES), lists: Some(1), ..ZoneConfig::default() };
    assert_ne!(config.backing, Backing::Heap, "the heap is not watched");
    Arc::new(Zone::new(config).expect("a small zone"))
}

fn take(zone: &Zone) -> Option<Frame<'_>> {
    zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok()
}

fn take_all(zone: &Zone) -> Vec<Frame<'_>> {
    std::iter::from_fn(|| take(zone)).collect()
}

fn fail(zone: &Zone, pfn: Pfn) {
    zone.inject_memory_failure(pfn, Injection::ActionRequired).expect("the signal is sent");
}

fn failures(total: u64, recovered: u64) -> MemoryFailureStats {
    let delayed = FrameCount(total - recovered);
    MemoryFailureStats { total: FrameCount(total), recovered: FrameCount(recovered), delayed }
}

/// S-38, R-025: marked as failed before its last reference is put, a frame goes to no free list
/// and is counted once.
#[test]
fn s38_a_failed_frame_is_retired_when_it_is_freed() {
    let zone = zone();
    let (first, second) = (take(&zone).expect("free"), take(&zone).expect("free"));
    let also = zone.get(first.pfn()).expect("in use");
    let pfn = first.pfn();
    fail(&zone, pfn);
    fail(&zone, pfn);
    assert_eq!(zone.memory_failure_stats(), failures(1, 0));
    drop(first);
    assert_eq!(zone.memory_failure_stats(), failures(1, 0), "it has another reference");
    drop(also);
    assert_eq!(zone.memory_failure_stats(), failures(1, 1));
    zone.check().expect("consistent");
    drop(second);
    zone.drain();
    let all = take_all(&zone);
    assert_eq!(all.len() as u64, FRAMES - 1);
    assert!(all.iter().all(|frame| frame.pfn() != pfn));
    assert_eq!(
        (zone.stats().retired, zone.stats().in_use),
        (FrameCount(1), FrameCount(FRAMES - 1))
    );
    zone.check().expect("consistent");
}

/// A failed frame on a buddy list or a per-CPU list is not allocated.
#[test]
fn r025_a_failed_free_frame_is_not_allocated() {
    let zone = zone();
    let mut held: Vec<_> = (0..200).filter_map(|_| take(&zone)).collect();
    let cached = held[50].pfn();
    drop(held.swap_remove(50));
    assert!(zone.stats().cached > FrameCount(0));
    for pfn in [cached, Pfn(250), Pfn(300), Pfn(510), Pfn(511)] {
        fail(&zone, pfn);
    }
    held.extend(take_all(&zone));
    assert_eq!(held.len() as u64, FRAMES - 5);
    assert!(held.iter().all(|frame| !zone.has_failed(frame.pfn())));
    drop(held);
    zone.trim();
    zone.check().expect("consistent");
    assert_eq!(zone.stats().retired, FrameCount(5));
}

/// A failed frame is not part of a block, a contiguous range, or memory for a host.
#[test]
fn r025_a_failed_frame_is_in_no_block() {
    let zone = zone();
    drop(take(&zone));
    fail(&zone, Pfn(100));
    let blocks = |order| {
        let order = Order::new(order).expect("small");
        let block = || zone.alloc_block(order, MigrateType::Movable, Reclaim::NotAllowed).ok();
        let blocks: Vec<_> = std::iter::from_fn(block).collect();
        blocks
            .iter()
            .filter(|block| (block.first().0..block.first().0 + order.frames()).contains(&100))
            .count()
    };
    assert_eq!((blocks(9), blocks(3), blocks(0)), (0, 0, 0));
    let range = zone
        .alloc_contig_range(Pfn(96)..Pfn(112), ContigRequest::default())
        .map(|contig| contig.frames());
    assert_eq!(range, Err(ContigError::Unmovable { pfn: Pfn(100) }));
    while let Some(held) = zone.alloc_committed_frame(MigrateType::Movable) {
        assert_ne!(held.into_pfn(), Pfn(100));
    }
    zone.check().expect("consistent");
}

/// A block with failed frames: those are retired, the others become free and merge.
#[test]
fn r025_a_block_is_freed_around_its_failed_frames() {
    let zone = zone();
    let order = Order::PAGEBLOCK;
    let block = zone.alloc_block(order, MigrateType::Movable, Reclaim::NotAllowed).expect("free");
    let first = block.first();
    for step in [0, 1, 77, 511] {
        fail(&zone, Pfn(first.0 + step));
    }
    assert_eq!(zone.memory_failure_stats(), failures(4, 0), "in use as a part of the block");
    drop(block);
    zone.check().expect("consistent");
    assert_eq!(zone.memory_failure_stats(), failures(4, 4));
    assert_eq!(take_all(&zone).len() as u64, FRAMES - 4);
}

/// Memory that failed after it was released to the OS does not matter: the frames get other
/// memory.
#[test]
fn r025_released_memory_loses_its_failures() {
    let zone = zone();
    drop(take_all(&zone));
    zone.trim();
    assert_eq!(zone.stats().committed, FrameCount(0));
    fail(&zone, Pfn(5));
    assert_eq!(take_all(&zone).len() as u64, FRAMES);
    zone.check().expect("consistent");
}

/// A retired frame counts against the limit: only the rest below it can be used.
#[test]
fn r025_retired_frames_count_against_the_limit() {
    let zone = zone();
    zone.set_limit(Some(FrameCount(100)));
    let held = take_all(&zone);
    assert_eq!(held.len(), 100);
    held[..10].iter().for_each(|frame| fail(&zone, frame.pfn()));
    drop(held);
    assert_eq!(take_all(&zone).len(), 90);
    let reservation = zone.reserve(FrameCount(90)).expect("room for as many");
    assert!(zone.reserve(FrameCount(1)).is_err() && take(&zone).is_none());
    drop(reservation);
    zone.check().expect("consistent");
}

/// Bytes of a failed frame are not copied as if they were valid, neither by migration nor by
/// compaction.
#[test]
fn r025_a_failed_frame_is_not_migrated() {
    let zone = zone();
    let store = Store::new(zone.reserve_owner().expect("a number"), 2048);
    let low: Vec<_> = (0..600).filter_map(|_| take(&zone)).collect();
    let chains: Vec<_> = (0..100).map(|_| store.filled(ChainKind::Single, 1, 7)).collect();
    let broken = store.chains.share(chains[60]).expect("live").frame(0).expect("attached");
    drop(low);
    fail(&zone, broken);
    let shared = store.chains.share(chains[60]).expect("live");
    assert!(shared.has_failed(0..FRAME_SIZE) && shared.pieces(0..1).expect("attached").0 == [0]);
    drop(shared);
    zone.compact(CompactRequest::default());
    assert!(zone.vmstat().pgmigrate_success >= 99);
    let shared = store.chains.share(chains[60]).expect("live");
    assert_eq!(shared.frame(0), Some(broken), "the failed frame was not moved");
    drop(shared);
    assert_eq!(zone.soft_offline(broken), Ok(()), "it has failed already");
    for (at, &id) in chains.iter().enumerate() {
        if at != 60 {
            store.assert_filled(id, 1, 7);
        }
        store.end(id);
    }
    assert_eq!(zone.memory_failure_stats(), failures(1, 1));
    zone.check().expect("consistent");
}

/// a frame that can still be read is retired after its content has moved.
#[test]
fn r025_soft_offline_moves_the_content() {
    let zone = zone();
    let store = Store::new(zone.reserve_owner().expect("a number"), 16);
    let id = store.filled(ChainKind::Multi, 3, 9);
    let frame = |at| store.chains.share(id).expect("live").frame(at).expect("attached");
    let old = frame(1);
    let reader = store.chains.share(id).expect("live");
    assert_eq!(
        zone.soft_offline(old),
        Err(OfflineError::Busy { pfn: old }),
        "a reader holds the chain"
    );
    assert_eq!(zone.memory_failure_stats(), failures(0, 0));
    drop(reader);
    assert_eq!(zone.soft_offline(old), Ok(()));
    assert_ne!(frame(1), old);
    store.assert_filled(id, 3, 9);
    assert_eq!(zone.memory_failure_stats(), failures(1, 1));
    assert_eq!(zone.soft_offline(old), Ok(()), "a second time changes nothing");
    assert_eq!(zone.memory_failure_stats(), failures(1, 1));
    zone.check().expect("consistent");
}

#[test]
fn r025_soft_offline_refuses_what_it_cannot_do() {
    let zone = zone();
    let unknown = Pfn(FRAMES as u32);
    assert_eq!(zone.soft_offline(unknown), Err(OfflineError::Unknown { pfn: unknown }));
    let pinned = take(&zone).expect("free");
    assert_eq!(
        zone.soft_offline(pinned.pfn()),
        Err(OfflineError::Busy { pfn: pinned.pfn() }),
        "it has no owner"
    );
    let free = Pfn(PAGEBLOCK_FRAMES - 1);
    assert_eq!(zone.soft_offline(free), Ok(()), "a free frame has nothing to move");
    let store = Store::new(zone.reserve_owner().expect("a number"), 16);
    let id = store.filled(ChainKind::Single, 1, 9);
    let full = store.chains.share(id).expect("live").frame(0).expect("attached");
    let rest = take_all(&zone);
    assert_eq!(zone.soft_offline(full), Err(OfflineError::NoFrames { pfn: full }));
    store.assert_filled(id, 1, 9);
    drop((rest, pinned));
    store.end(id);
    assert_eq!(zone.memory_failure_stats(), failures(1, 1));
    zone.check().expect("consistent");
}

/// The early signal, and one for a frame that was never used.
#[test]
fn r025_an_early_notice_retires_as_well() {
    let zone = zone();
    let used = take(&zone).expect("free");
    for pfn in [used.pfn(), Pfn(1000)] {
        zone.inject_memory_failure(pfn, Injection::ActionOptional).expect("the signal is sent");
    }
    drop(used);
    zone.drain();
    let all = take_all(&zone);
    assert!((FRAMES - 2..FRAMES).contains(&(all.len() as u64)));
    zone.check().expect("consistent");
}
