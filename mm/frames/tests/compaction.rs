//! Compaction as seen by a request for a block and by memory release.

#![cfg(not(loom))]
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "each test uses a part of it")]
mod driver;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use frames::{
    AllocError, CompactGoal, CompactOutcome, CompactRequest, FrameCount, MigrateMode, MigrateType,
    Movability, Order, PAGEBLOCK_FRAMES, Reclaim, Watermarks, Zone,
};

use driver::zones::{quietly, take_all};
use driver::{Driver, Response, compacted_block, zone_of_blocks};

const BLOCK: u32 = PAGEBLOCK_FRAMES;

fn zone(blocks: u32, movability: Movability) -> Arc<Zone> {
    zone_of_blocks(blocks, |config| config.movability = movability)
}

/// Fills the zone and frees `count` frames at random, so that no two neighbours of an aligned
/// pair are free.
fn scatter(driver: &Driver, count: u64, seed: u64) {
    let pages = driver.fill();
    let mut rng = Rng::with_seed(seed);
    let mut pairs: Vec<usize> = (0..pages.len() / 2).collect();
    for _ in 0..count {
        let pair = pairs.swap_remove(rng.usize(..pairs.len()));
        driver.release(pages[pair * 2 + rng.usize(..2)]);
    }
}

/// How long a request waits for its compaction, in wall-clock time.
const DIRECT_COMPACT_TIMEOUT: Duration = Duration::from_millis(50);

/// Returns whether a request for a block succeeds in a zone with the documented number of free
/// frames, none of them neighbours. A request that times out because its thread was off its core
/// does not count: it is repeated in a fresh zone.
fn one_request(movability: Movability, order: Order, seed: u64) -> bool {
    let answer = (0..20).find_map(|_| request_in_time(movability, order, seed));
    answer.expect("one of twenty requests has its time")
}

/// Makes one such request; `None` if it failed and had timed out.
fn request_in_time(movability: Movability, order: Order, seed: u64) -> Option<bool> {
    let zone = zone(12, movability);
    let driver = Driver::new(&zone);
    let free = 2 * u64::from(order.frames()) + zone.watermarks().min.0;
    scatter(&driver, free, seed);
    let plain = zone.alloc_block(order, MigrateType::Unmovable, Reclaim::NotAllowed).map(drop);
    assert_eq!(plain, Err(AllocError::NoFrames), "no block is free beforehand");
    let in_use = zone.stats().in_use.0;
    let start = Instant::now();
    let block = compacted_block(&zone, order, MigrateType::Unmovable);
    let late = start.elapsed() >= DIRECT_COMPACT_TIMEOUT;
    let got = block.is_ok();
    assert_eq!(
        zone.stats().in_use.0,
        in_use + if got { u64::from(order.frames()) } else { 0 },
        "R-108"
    );
    driver.check();
    drop(block);
    zone.check().expect("consistent");
    (got || !late).then_some(got)
}

/// S-48: a block can always be made of fragmented movable frames, and never where
/// nothing moves.
#[test]
fn r111_s48_blocks_are_made_of_fragmented_memory() {
    const SEEDS: u64 = if cfg!(miri) { 1 } else { 25 };
    for order in [2, 3, 9].map(|order| Order::new(order).expect("small")) {
        let count = |movability| {
            (1..=SEEDS).filter(|&seed| one_request(movability, order, seed)).count() as u64
        };
        let (on, off) = (count(Movability::On), count(Movability::Off));
        println!("{order}: {on} of {SEEDS} requests succeed, with movability off {off} of {SEEDS}");
        assert_eq!(
            (on, off),
            (SEEDS, 0),
            "requests that succeed with movability on and off, order {order}"
        );
    }
}

/// The same below a limit: only free frames below the limit count.
#[test]
fn r111_blocks_are_made_below_a_limit() {
    for order in [2, 3, 9].map(|order| Order::new(order).expect("small")) {
        let zone = zone(12, Movability::On);
        let driver = Driver::new(&zone);
        scatter(&driver, u64::from(3 * BLOCK), 7);
        let in_use = zone.stats().in_use.0;
        let ask = || compacted_block(&zone, order, MigrateType::Unmovable);
        zone.set_limit(Some(FrameCount(in_use + u64::from(order.frames()) - 1)));
        assert_eq!(ask().map(drop), Err(AllocError::Limit));
        let mut enough = in_use + 2 * u64::from(order.frames());
        // The watermark is that of the limit itself.
        while enough
            < in_use + 2 * u64::from(order.frames()) + Watermarks::of(FrameCount(enough)).min.0
        {
            enough += 1;
        }
        zone.set_limit(Some(FrameCount(enough)));
        let block = ask().expect("enough is free below the limit");
        assert!(zone.stats().in_use.0 <= enough);
        zone.check().expect("consistent");
        drop(block);
    }
}

/// The largest order is a pair of pageblocks. One of them may have no memory.
#[test]
fn a_pair_of_pageblocks_is_allocated() {
    let zone = zone(11, Movability::On);
    let driver = Driver::new(&zone);
    let pages = driver.fill();
    // The second half of each pair becomes free, and one of these is released to the OS.
    for (at, &tag) in pages.iter().enumerate() {
        if at as u32 / BLOCK % 2 == 1 {
            driver.release(tag);
        }
    }
    zone.trim();
    let block = compacted_block(&zone, Order::MAX, MigrateType::Movable);
    assert!(block.is_ok(), "{block:?}");
    driver.check();
}

/// a failed request for a pair leaves the half without memory unchanged.
#[test]
fn a_failed_pair_commits_no_memory() {
    let zone = zone(12, Movability::On);
    let driver = Driver::new(&zone);
    let pages = driver.fill();
    // A pinned page in the first half of each pair, nothing in the second.
    let pinned = |at: u32| at.is_multiple_of(2 * BLOCK);
    (0..12 * BLOCK)
        .zip(&pages)
        .filter(|&(at, _)| !pinned(at))
        .for_each(|(_, &tag)| driver.release(tag));
    driver.tags().into_iter().for_each(|tag| _ = driver.pin(tag));
    zone.trim();
    let before = zone.stats().committed;
    assert_eq!(before.0, u64::from(6 * BLOCK));
    let block = compacted_block(&zone, Order::MAX, MigrateType::Movable);
    assert_eq!((block.map(drop), zone.vmstat().compact_fail), (Err(AllocError::NoFrames), 1));
    assert_eq!(zone.stats().committed, before);
    driver.check();
}

/// each failure defers more requests than the last one, at most 64. A success ends the
/// deferral.
#[test]
fn r110_requests_are_deferred_after_failures() {
    let zone = zone(8, Movability::On);
    let driver = Driver::new(&zone);
    let pages = driver.fill();
    pages.iter().step_by(2).for_each(|&tag| driver.release(tag));
    // A pinned page in each pageblock.
    pages.iter().skip(1).step_by(256).for_each(|&tag| {
        driver.pin(tag);
    });
    let ask = || compacted_block(&zone, Order::PAGEBLOCK, MigrateType::Unmovable);
    let mut skipped = Vec::new();
    assert!(ask().is_err());
    for _ in 0..9 {
        let stalls = zone.vmstat().compact_stall;
        let until_next = (0..200).find(|_| ask().is_err() && zone.vmstat().compact_stall > stalls);
        skipped.extend(until_next);
    }
    assert_eq!(skipped, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
    let stat = zone.vmstat();
    assert_eq!((stat.compact_stall, stat.compact_fail, stat.compact_success), (10, 10, 0));
    assert_eq!(stat.compact_deferred, 255);
    driver.unpin_all();
    let block = (0..65).find_map(|_| ask().ok());
    assert!(block.is_some(), "after 64 more requests at the latest");
    drop(block);
    assert_eq!(zone.vmstat().compact_success, 1);
    zone.check().expect("consistent");
}

/// Whatever the owner does, a request returns soon and leaves everything unchanged (R-107, R-108,
///
#[test]
fn a_driver_that_never_moves_does_not_block() {
    for response in [Response::Again, Response::Fails, Response::Panics] {
        let zone = zone(6, Movability::On);
        let driver = Driver::new(&zone);
        scatter(&driver, u64::from(2 * BLOCK), 3);
        driver.set_response(response);
        let before = (driver.places(), zone.stats().in_use);
        let start = Instant::now();
        let block =
            quietly(|| compacted_block(&zone, Order::PAGEBLOCK, MigrateType::Unmovable).map(drop));
        assert_eq!(block, Err(AllocError::NoFrames), "{response:?}");
        for mode in [MigrateMode::Async, MigrateMode::SyncLight, MigrateMode::Sync] {
            let request = CompactRequest { mode, ..CompactRequest::default() };
            let done = quietly(|| zone.compact(request));
            assert_eq!(
                (done.frames_moved, done.outcome),
                (0, CompactOutcome::Done),
                "{response:?}"
            );
            assert!(done.frames_busy > 0);
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{response:?}: {:?}", start.elapsed());
        zone.check().expect("consistent");
        assert_eq!((driver.places(), zone.stats().in_use), before, "{response:?}");
        assert_eq!(zone.isolated(), 0);
        driver.set_response(Response::Move);
        assert!(zone.compact(CompactRequest::default()).frames_moved > 0, "usable again");
        zone.check().expect("consistent");
    }
}

/// R-106, S-23, F1: another thread allocates free frames while compaction isolates frames.
/// Compaction does not use frames that the free scanner could not take: no page of the driver is
/// overwritten, and no frame is lost.
#[test]
fn s23_f1_free_frames_that_others_take_are_not_used() {
    let zone = zone(6, Movability::On);
    let driver = Driver::new(&zone);
    scatter(&driver, u64::from(BLOCK), 11);
    let before = driver.frames();
    std::thread::scope(|scope| {
        let taker = scope.spawn(|| {
            let mut rounds = 0;
            while rounds < if cfg!(miri) { 3 } else { 300 } {
                drop(take_all(&zone));
                rounds += 1;
            }
        });
        while !taker.is_finished() {
            zone.compact(CompactRequest::default());
        }
    });
    driver.check();
    assert_eq!((driver.frames(), zone.stats().in_use), (before, before));
}

/// No frame is free to move content to.
#[test]
fn empty_and_full_zones_are_compacted_at_once() {
    let zone = zone(4, Movability::On);
    assert_eq!(zone.compact(CompactRequest::default()).outcome, CompactOutcome::Done);
    let goal = |goal| zone.compact(CompactRequest { goal, ..CompactRequest::default() }).outcome;
    assert_eq!(
        goal(CompactGoal::Block(Order::MAX)),
        CompactOutcome::Reached,
        "unused memory is not fragmented"
    );
    let driver = Driver::new(&zone);
    let pages = driver.fill();
    let places = driver.places();
    let done = zone.compact(CompactRequest::default());
    assert_eq!((done.frames_moved, done.outcome), (0, CompactOutcome::Done));
    assert_eq!(
        goal(CompactGoal::Block(Order::new(1).expect("small"))),
        CompactOutcome::Skipped,
        "too few frames are free"
    );
    assert_eq!(driver.places(), places);
    let block = compacted_block(&zone, Order::new(2).expect("small"), MigrateType::Movable);
    assert_eq!(
        (block.map(drop), zone.vmstat().compact_stall),
        (Err(AllocError::NoFrames), 0),
        "too few frames are free"
    );
    zone.check().expect("consistent");
    drop(pages);
}

/// A pageblock in which nothing can be moved is skipped until the whole zone is compacted.
#[test]
fn pageblocks_with_nothing_to_move_are_skipped() {
    let zone = zone(8, Movability::On);
    let driver = Driver::new(&zone);
    let pages = driver.fill();
    pages.iter().for_each(|&tag| {
        driver.pin(tag);
    });
    pages.iter().step_by(2).for_each(|&tag| driver.release(tag));
    zone.drain();
    let block =
        CompactRequest { goal: CompactGoal::Block(Order::PAGEBLOCK), ..CompactRequest::default() };
    let (first, second) = (zone.compact(block), zone.compact(block));
    assert_eq!((first.outcome, second.outcome), (CompactOutcome::Done, CompactOutcome::Done));
    assert!(first.scanned >= 8 * 256 && second.scanned == 0, "{first:?} {second:?}");
    driver.unpin_all();
    assert_eq!(zone.compact(block).frames_moved, 0, "the skip hints are out of date");
    assert!(zone.compact(CompactRequest::default()).frames_moved > 0);
    assert_eq!(zone.compact(block).outcome, CompactOutcome::Reached);
    zone.check().expect("consistent");
}

/// Several threads compact at once: each either compacts or learns that another thread does.
#[test]
fn one_of_several_compactions_runs_at_a_time() {
    let zone = zone(8, Movability::On);
    let driver = Driver::new(&zone);
    scatter(&driver, u64::from(3 * BLOCK), 5);
    let moved = std::thread::scope(|scope| {
        let ask = || {
            let done = zone.compact(CompactRequest::default());
            assert!(
                done.outcome == CompactOutcome::Done
                    || (done.outcome, done.frames_moved) == (CompactOutcome::AlreadyRunning, 0)
            );
            done.frames_moved
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum::<u64>()
    });
    assert_eq!(moved, zone.vmstat().pgmigrate_success);
    driver.check();
}

/// Several requests compact for blocks at once: each block belongs to one of them, and no frame
/// is lost.
#[test]
fn blocks_compacted_at_once_never_overlap() {
    let zone = zone(24, Movability::On);
    let driver = Driver::new(&zone);
    let pages = driver.fill();
    pages.iter().step_by(2).for_each(|&tag| driver.release(tag));
    let in_use = zone.stats().in_use.0;
    let ask = |_| compacted_block(&zone, Order::PAGEBLOCK, MigrateType::Unmovable);
    let blocks: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..2).filter_map(|at| ask(at).ok()).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(!blocks.is_empty());
    let mut firsts: Vec<_> = blocks.iter().map(frames::Block::first).collect();
    firsts.sort_unstable();
    firsts.dedup();
    assert_eq!(firsts.len(), blocks.len());
    assert_eq!(zone.stats().in_use.0, in_use + blocks.len() as u64 * u64::from(BLOCK));
    println!("{} of 8 requests at once succeed", blocks.len());
    driver.check();
    drop(blocks);
    zone.check().expect("consistent");
}
