use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::direct::CaptureOutcome;
use super::free_scanner::FreeScanner;
use super::pass::is_goal_met;
use super::*;
use crate::buddy::CommitState;
use crate::migrate::Targets;
use crate::store::Store;
use crate::units::BlockIndex;
use crate::zones::{heap_zone, take, take_block, zone_with};
use crate::{Budget, ChainId, ChainKind, CmaRegion, FrameCount, PAGEBLOCK_FRAMES, Pfn, Reclaim};

fn store(limit: Option<u64>) -> Arc<Store> {
    let zone = zone_with(4096, |config| config.limit = limit.map(FrameCount));
    Store::new(zone.reserve_owner().expect("the only one"), 1024)
}

/// Creates `count` chains of three frames, each filled with its number, and destroys every second
/// one.
fn scattered(store: &Store, count: usize) -> Vec<ChainId> {
    let ids: Vec<ChainId> =
        (0..count).map(|number| store.filled(ChainKind::Multi, 3, number as u8)).collect();
    ids.iter().step_by(2).for_each(|&id| store.end(id));
    ids
}

/// Half of the chains are destroyed, spread over all pageblocks. Compaction fills the low
/// pageblocks and leaves the high ones free.
#[test]
fn r100_compaction_empties_high_blocks_keeps_bytes() {
    let store = store(None);
    let (chains, zone) = (&store.chains, store.chains.zone());
    let ids = scattered(&store, 1000);
    let reader = chains.share(ids[999]).expect("live");
    let done = zone.compact(CompactRequest::default());
    assert_eq!(
        (done.outcome, done.frames_busy),
        (CompactOutcome::Done, 3),
        "frames with a reader stay"
    );
    assert!(done.frames_moved > 500);
    drop(reader);
    zone.check().expect("consistent");
    assert_eq!(zone.stats().in_use, FrameCount(1500));
    ids.iter()
        .enumerate()
        .skip(1)
        .step_by(2)
        .for_each(|(number, &id)| store.assert_filled(id, 3, number as u8));
    // 1500 frames fit three pageblocks; the busy chain keeps one or two more.
    zone.trim();
    assert!(zone.stats().committed.0 - zone.stats().in_use.0 <= 3 * u64::from(PAGEBLOCK_FRAMES));
    let again = zone.compact(CompactRequest::default());
    assert_eq!(again.frames_moved, 3, "a second compaction moves only the frames that were busy");
    let stat = zone.vmstat();
    assert_eq!((stat.pgmigrate_success, stat.pgmigrate_fail), (done.frames_moved + 3, 3));
    assert_eq!(stat.nr_isolated, 0);
}

/// the scanners have met only when no lower frame is free. That the frames taken
/// before are not lower does not count.
#[test]
fn r100_frames_that_become_free_below_are_found() {
    let zone = heap_zone(2048);
    let mut held: Vec<_> =
        (0..4 * PAGEBLOCK_FRAMES).map(|_| Some(take(&zone).expect("room"))).collect();
    let mut free = |frames: [u32; 2]| {
        frames.into_iter().for_each(|frame| drop(held[frame as usize].take()));
        zone.drain();
    };
    let (second, last) = (Pfn(PAGEBLOCK_FRAMES), Pfn(3 * PAGEBLOCK_FRAMES));
    free([second.0, second.0 + 1]);
    let mut scanner = FreeScanner::new(&zone);
    scanner.end = last.block();
    assert_eq!(scanner.next(last).map(|target| target.pfn()), Some(second));
    free([7, 8]);
    scanner.end = second.block();
    assert_eq!(scanner.next(second).map(|target| target.pfn()), Some(Pfn(7)));
    drop(scanner);
    zone.check().expect("consistent");
}

/// A zone at its limit can be compacted: a frame in flight counts once.
#[test]
fn a_full_zone_is_compacted_and_its_limit_holds() {
    let store = store(Some(1500));
    let (chains, zone) = (&store.chains, store.chains.zone());
    scattered(&store, 500);
    zone.set_limit(Some(FrameCount(750)));
    let is_refused = || {
        let mut fresh = chains.create(ChainKind::Multi, 7).expect("a number");
        fresh.attach(0, Reclaim::NotAllowed).is_err()
    };
    assert!(is_refused());
    let done = zone.compact(CompactRequest::default());
    assert!(done.frames_moved > 200, "{done:?}");
    assert!(is_refused());
    assert_eq!(zone.stats().in_use, FrameCount(750));
    zone.check().expect("consistent");
}

/// a goal is met if and only if the block can be allocated, wherever the CMA region
/// is.
#[test]
fn r112_a_goal_is_reached_when_the_block_can_be_had() {
    const BLOCKS: u32 = 12;
    let mut rng = Rng::with_seed(7);
    let (mut reached, mut refused) = (0, 0);
    for _ in 0..if cfg!(miri) { 2 } else { 50 } {
        let (first, blocks) = (rng.u32(..BLOCKS), rng.u32(..6));
        let a_block = |blocks: u32| blocks.min(BLOCKS - first) * PAGEBLOCK_FRAMES;
        let cma = CmaRegion {
            first: Pfn(first * PAGEBLOCK_FRAMES),
            frames: FrameCount(a_block(blocks).into()),
        };
        let cma = (blocks > 0).then_some(cma);
        let zone = zone_with((BLOCKS * PAGEBLOCK_FRAMES).into(), |config| config.cma = cma);
        let mut held: Vec<_> =
            (0..rng.u32(..BLOCKS + 2) * PAGEBLOCK_FRAMES).map_while(|_| take(&zone).ok()).collect();
        // A few frames stay in some of the pageblocks; the others are wholly free.
        let keep: Vec<u32> = (0..BLOCKS).map(|_| rng.u32(..3)).collect();
        held.retain(|frame| {
            frame.pfn().offset_in_block() < keep[frame.pfn().block().index()] * 200
        });
        if rng.bool() {
            zone.trim()
        } else {
            zone.drain()
        }
        for order in [Order::new(3).expect("small"), Order::PAGEBLOCK, Order::MAX] {
            let said = is_goal_met(&zone, CompactGoal::Block(order));
            let had = take_block(&zone, order).is_ok();
            assert_eq!(
                said,
                had,
                "{order}, region {cma:?}, kept {keep:?}\n{}",
                zone.pagetypeinfo()
            );
            if said { reached += 1 } else { refused += 1 }
        }
        zone.check().expect("consistent");
    }
    assert!(reached > 0 && refused > 0 || cfg!(miri), "{reached} and {refused}");
}

#[test]
fn an_empty_budget_or_a_second_compaction_moves_none() {
    let store = store(None);
    let zone = store.zone();
    scattered(&store, 500);
    let none =
        CompactRequest { budget: Budget::within(Duration::ZERO), ..CompactRequest::default() };
    assert_eq!(
        (zone.compact(none).outcome, zone.vmstat().pgmigrate_success),
        (CompactOutcome::OutOfTime, 0)
    );
    let running = zone.compaction().running.lock();
    assert_eq!(zone.compact(CompactRequest::default()).outcome, CompactOutcome::AlreadyRunning);
    drop(running);
    assert_eq!(zone.compact(CompactRequest::default()).outcome, CompactOutcome::Done);
}

/// A pair whose second half is being released is skipped, and its first half has no memory again.
#[test]
fn a_pair_that_cannot_be_captured_leaves_no_memory() {
    let zone = heap_zone(2048);
    let (first, second) = (BlockIndex(2), BlockIndex(3));
    zone.allocator().with_buddy(|buddy, tables| {
        buddy.bring_online(tables, second.0 + 1);
        buddy.ensure_committed(tables, second).expect("never used");
        buddy.begin_release(tables, second);
    });
    let deadline = Budget::unlimited().start();
    let attempt = direct::capture_pair(&zone, first.first(), Order::MAX, deadline);
    assert!(matches!(attempt, CaptureOutcome::NothingMoved), "{attempt:?}");
    assert_eq!(zone.tables().blocks.state(first).commit_state, CommitState::Released);
    zone.allocator().with_buddy(|buddy, tables| buddy.finish_release(tables, second));
    zone.check().expect("consistent");
}
