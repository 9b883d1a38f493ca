//! Tests of the zone through its public interface.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::compaction::ContigCapture;
use crate::units::BlockIndex;
use crate::zones::{take, take_all, take_block, zone_with};
use crate::{AllocError, Backing, ContigRequest, MigrateType, Order};

fn zone(frames: u64) -> Arc<Zone> {
    zone_with(frames, |config| {
        config.backing = if cfg!(miri) { Backing::Heap } else { Backing::Anonymous };
        config.lists = Some(2);
    })
}

#[test]
fn consecutive_frames_are_adjacent_and_ascending() {
    let zone = zone(2048);
    let frames: Vec<_> = (0..1200).map(|_| take(&zone).expect("free frames").into_pfn()).collect();
    assert!(frames.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1), "{frames:?}");
    frames.into_iter().for_each(|pfn| drop(Frame::new(&zone, pfn)));
    assert_eq!(zone.stats().in_use, FrameCount(0));
}

#[test]
fn every_frame_of_the_arena_is_allocated_once() {
    let zone = zone(1536);
    let mut seen = BTreeSet::new();
    let mut held = Vec::new();
    loop {
        match take(&zone) {
            Ok(frame) => {
                assert!(seen.insert(frame.pfn()), "{} allocated twice", frame.pfn());
                held.push(frame);
            }
            Err(error) => break assert_eq!(error, AllocError::NoFrames),
        }
    }
    assert_eq!(seen.len(), 1536);
    drop(held.pop());
    assert!(take(&zone).is_ok(), "a freed frame is allocated again");
}

#[test]
fn the_limit_is_exact_while_lists_hold_frames() {
    let zone = zone(4096);
    zone.set_limit(Some(FrameCount(1000)));
    let mut held: Vec<_> = (0..1000).map(|_| take(&zone).expect("below the limit")).collect();
    assert_eq!(take(&zone).expect_err("the limit is reached"), AllocError::Limit);
    for _ in 0..100 {
        drop(held.pop());
        held.push(take(&zone).expect("one below the limit"));
        assert_eq!(take(&zone).expect_err("the limit is reached"), AllocError::Limit);
    }
}

#[test]
fn a_lowered_limit_refuses_until_enough_is_freed() {
    let zone = zone(4096);
    let mut held: Vec<_> = (0..500).map(|_| take(&zone).expect("free frames")).collect();
    zone.set_limit(Some(FrameCount(400)));
    for _ in 0..100 {
        assert_eq!(take(&zone).expect_err("above the limit"), AllocError::Limit);
        drop(held.pop());
    }
    assert_eq!(take(&zone).expect_err("at the limit"), AllocError::Limit);
    drop(held.pop());
    assert!(take(&zone).is_ok());
}

#[test]
fn unusable_capacities_are_errors() {
    let config = |frames| ZoneConfig {
        capacity: FrameCount(frames),
        backing: Backing::Heap,
        ..ZoneConfig::default()
    };
    let zone = |frames| Zone::new(config(frames));
    assert!(matches!(zone(0), Err(ZoneError::Capacity { .. })));
    assert!(matches!(zone(1 << 32), Err(ZoneError::Capacity { .. })));
    assert!(matches!(zone(u64::MAX), Err(ZoneError::Capacity { .. })));
    assert_eq!(
        zone(1).expect("one frame").capacity(),
        FrameCount(512),
        "rounded up to whole pageblocks"
    );
}

#[test]
fn types_do_not_share_pageblocks_while_there_is_room() {
    let zone = zone(4096);
    let take = |kind| zone.alloc_frame(kind, Reclaim::NotAllowed).expect("free frames");
    let held: Vec<_> = (0..900).map(|n| take(MigrateType::ALL[n % 3])).collect();
    let mut kinds = std::collections::BTreeMap::new();
    for (n, frame) in held.iter().enumerate() {
        let kind = kinds.entry(frame.pfn().block()).or_insert(n % 3);
        assert_eq!(*kind, n % 3, "{} shares a pageblock", frame.pfn());
    }
}

/// As in the kernel: a pageblock changes its type only if at least half of it is free.
#[test]
fn a_full_zone_steals_half_empty_pageblocks() {
    let zone = zone(1024);
    let take = |kind| zone.alloc_frame(kind, Reclaim::NotAllowed);
    let first: Vec<_> =
        (0..10).map(|_| take(MigrateType::Unmovable).expect("free frames")).collect();
    let mut second: Vec<_> =
        (0..512).map(|_| take(MigrateType::Movable).expect("free frames")).collect();
    zone.drain();
    // The first pageblock is nearly empty, so it changes its type.
    second.push(take(MigrateType::Movable).expect("stolen"));
    let kind = |pfn: Pfn| zone.tables().blocks.state(pfn.block()).migrate_type;
    assert_eq!(kind(first[0].pfn()), MigrateType::Movable);
    while let Ok(frame) = take(MigrateType::Movable) {
        second.push(frame);
    }
    // Now a few frames of a full pageblock are freed: they are allocated, and its type stays.
    second.truncate(second.len() - 40);
    assert!(take(MigrateType::Unmovable).is_ok());
    assert_eq!(kind(first[0].pfn()), MigrateType::Movable);
    zone.check().expect("consistent");
}

/// the bytes that an owner leaves in a frame are gone after the frame was decommitted and
/// committed again.
#[test]
fn released_memory_comes_back_as_zeros() {
    let zone = zone(512);
    let chains = crate::FrameChains::new(
        zone.reserve_owner().expect("the only one"),
        4,
        crate::OwnerWords::default(),
        Backing::Heap,
    )
    .expect("small tables");
    let mut first = chains.create(crate::ChainKind::Single, 0).expect("numbers are left");
    first.attach(0, Reclaim::NotAllowed).expect("frames are left");
    first.pieces_mut(0..4096).expect("attached").0.fill(0xee);
    first.destroy();
    chains.zone().trim();
    let mut again = chains.create(crate::ChainKind::Single, 0).expect("numbers are left");
    again.attach(0, Reclaim::NotAllowed).expect("frames are left");
    assert!(again.pieces_mut(0..4096).expect("attached").0.iter().all(|&byte| byte == 0));
}

#[test]
fn the_last_frames_are_found_on_other_lists() {
    let zone = zone(512);
    std::thread::scope(|scope| {
        // Each thread leaves a frame on its list.
        for _ in 0..4 {
            scope.spawn(|| drop(take(&zone)));
        }
    });
    let held: Vec<_> = (0..512).map(|_| take(&zone)).collect();
    assert!(held.iter().all(Result::is_ok));
}

/// A block of two pageblocks is freed while one of them is isolated. Each half is free by itself,
/// and they merge when the isolation ends.
#[test]
fn a_largest_block_is_freed_while_half_is_isolated() {
    for half in 0..2 {
        let zone = zone(2048);
        let block = take_block(&zone, Order::MAX).expect("an empty zone");
        let isolated = BlockIndex(block.first().block().0 + half);
        zone.allocator.buddy.lock().isolate(zone.tables(), isolated).expect("not isolated");
        drop(block);
        zone.check().expect("consistent");
        zone.allocator.buddy.lock().end_isolation(zone.tables(), isolated);
        zone.check().expect("consistent");
        assert!(take_block(&zone, Order::MAX).is_ok());
    }
}

/// Runs a request on another thread while an empty list of a third thread is locked. It must be
/// refused without waiting for that list.
fn refused_beside_a_locked_list(zone: &Zone, request: impl Fn() -> Option<()> + Sync) {
    std::thread::scope(|scope| {
        let (answer, answered) = std::sync::mpsc::channel();
        let (go, start) = std::sync::mpsc::channel::<()>();
        let request = &request;
        scope.spawn(move || {
            answer.send(Err(sync::this_shard(16))).expect("the test waits");
            let _ = start.recv();
            answer.send(Ok(request())).expect("the test waits");
        });
        let theirs = answered.recv().expect("sent").expect_err("its list");
        let other = zone.allocator().lists[(theirs + 1) % 16].lock();
        go.send(()).expect("the thread waits");
        let result = answered.recv_timeout(std::time::Duration::from_secs(20));
        drop(other);
        assert_eq!(
            result.expect("the request must not wait for an empty list").expect("the answer"),
            None,
            "at the limit"
        );
    });
}

/// A thread reads that a pageblock is not isolated, and puts a frame of it on its list after the
/// pageblock was isolated. The capture waits for that list and finds the frame there.
#[test]
fn a_capture_waits_for_a_frame_being_freed() {
    let zone = zone(512);
    let frame = take(&zone).expect("an empty zone");
    zone.drain();
    let pfn = frame.into_pfn();
    std::thread::scope(|scope| {
        // As `FrameAllocator::push`, with another thread in between.
        let mut list = zone.allocator().lists[0].lock();
        zone.tables().frames.put(pfn).expect("in use");
        let block_state = zone.tables().blocks.state(pfn.block());
        assert!(!block_state.isolated);
        let capture = scope.spawn(|| {
            zone.alloc_contig_range(pfn..Pfn(pfn.0 + 1), ContigRequest::default()).map(drop)
        });
        while !zone.tables().blocks.state(pfn.block()).isolated {
            std::thread::yield_now();
        }
        // Time for a capture that does not wait to fail.
        std::thread::sleep(std::time::Duration::from_millis(50));
        list.push(block_state.migrate_type, pfn);
        drop(list);
        assert_eq!(capture.join().expect("no panic"), Ok(()));
    });
    zone.drain();
    zone.check().expect("consistent");
}

/// A request at the limit locks only the lists that hold frames. Another thread may hold any other
/// list for any time.
#[test]
fn a_refusal_waits_for_no_empty_list() {
    let zone = zone_with(1024, |config| {
        config.limit = Some(FrameCount(64));
        config.lists = Some(16);
    });
    let held = take_all(&zone);
    assert_eq!(held.len(), 64);
    refused_beside_a_locked_list(&zone, || take(&zone).map(drop).ok());
    refused_beside_a_locked_list(&zone, || zone.reserve(FrameCount(1)).map(drop).ok());
    refused_beside_a_locked_list(&zone, || ContigCapture::begin(&zone, Pfn(512), 4).map(drop).ok());
    // Frames on the list of another thread can be allocated.
    std::thread::scope(|scope| _ = scope.spawn(|| drop(held)));
    assert_eq!(take_all(&zone).len(), 64);
    zone.check().expect("consistent");
}
