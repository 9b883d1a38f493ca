//! A zone after a panic interrupted a change of its free lists.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::page::State;
use crate::zones::{take, take_block, zone_with};
use crate::{
    AllocError, CheckError, CompactOutcome, CompactRequest, ContigError, ContigRequest, FrameCount,
    MigrateType, NoLocksHeld, Order, Reclaim, Zone,
};

const MOVABLE: MigrateType = MigrateType::Movable;

fn zone() -> Arc<Zone> {
    zone_with(2048, |config| config.lists = Some(1))
}

/// Poisons the zone. Corrupts the state of a frame on the per-CPU list, then drains the list, which
/// panics. By then the frame is counted as free, is on no buddy list yet, and is still on the
/// per-CPU list.
fn poison(zone: &Zone) {
    let mut held: Vec<_> = (0..256).map(|_| take(zone).expect("room")).collect();
    let broken = held[255].pfn();
    held.truncate(254);
    // These stay in use: the test is only about the others.
    held.into_iter().for_each(mem::forget);
    zone.tables().frames.change(broken, State::CACHED, State::INSIDE);
    assert!(zone.allocator().lists[0].len_hint() > 1, "frames are at hand");
    catch_unwind(AssertUnwindSafe(|| zone.drain())).expect_err("the frame is not cached");
}

#[test]
fn a_panic_in_a_buddy_update_poisons_the_zone() {
    let zone = zone();
    assert!(!zone.is_poisoned());
    poison(&zone);
    assert!(zone.is_poisoned());
    assert_eq!(zone.check(), Err(CheckError::Poisoned));
}

#[test]
fn a_poisoned_zone_hands_out_nothing() {
    let zone = zone();
    let mut room = zone.reserve(FrameCount(2)).expect("room");
    poison(&zone);
    let refused = AllocError::Poisoned;
    assert_eq!(take(&zone).map(drop), Err(refused));
    let reclaim = Reclaim::Allowed(NoLocksHeld::promise());
    assert_eq!(zone.alloc_frame(MOVABLE, reclaim).map(drop), Err(refused));
    for order in Order::SINGLE.and_larger() {
        assert_eq!(take_block(&zone, order).map(drop), Err(refused), "{order}");
    }
    assert_eq!(
        zone.alloc_owned_block(Order::PAGEBLOCK, MOVABLE, Reclaim::NotAllowed).map(drop),
        Err(refused)
    );
    assert!(zone.alloc_committed_frame(MOVABLE).is_none());
    assert!(zone.alloc_committed_block(MOVABLE).is_none());
    assert_eq!(room.take(MOVABLE).map(drop), Err(refused));
    assert_eq!(zone.reserve(FrameCount(1)).map(drop), Err(refused));
    assert_eq!(zone.charge(1), Err(refused));
    let contig = zone.alloc_contig_frames(FrameCount(4), ContigRequest::default());
    assert_eq!(contig.map(drop), Err(ContigError::Poisoned));
}

#[test]
fn a_poisoned_zone_moves_and_reclaims_nothing() {
    let zone = zone();
    poison(&zone);
    let report = zone.compact(CompactRequest::default());
    assert_eq!(
        (report.outcome, report.frames_moved, report.scanned),
        (CompactOutcome::Skipped, 0, 0)
    );
    assert_eq!(zone.fragmentation(), 0);
    assert_eq!(zone.shrink(FrameCount(1), &NoLocksHeld::promise()), FrameCount(0));
    let released = zone.stats().blocks_released_total;
    zone.trim();
    zone.release_excess_if_due();
    assert_eq!(zone.stats().blocks_released_total, released);
}

/// No destructor may panic, and no freed frame may be allocated again.
#[test]
fn frames_freed_to_a_poisoned_zone_are_lost() {
    let zone = zone();
    let frame = take(&zone).expect("room");
    let block = take_block(&zone, Order::PAGEBLOCK).expect("room");
    let contig = zone.alloc_contig_frames(FrameCount(3), ContigRequest::default()).expect("room");
    let (room, over_limit) =
        (zone.reserve(FrameCount(2)).expect("room"), zone.allow_over_limit(FrameCount(1)));
    zone.charge(100).expect("room");
    poison(&zone);
    let cached = zone.stats().cached;
    drop((frame, block, contig, room, over_limit));
    zone.uncharge(100);
    assert_eq!(zone.stats().lost.0, 1 + u64::from(Order::PAGEBLOCK.frames()) + 3);
    assert_eq!(zone.stats().cached, cached, "no freed frame is on a per-CPU list");
}

/// A destructor may lock the zone while another panic unwinds. That says nothing about the free
/// lists.
#[test]
fn a_panic_elsewhere_does_not_poison_a_zone() {
    let zone = zone();
    let block = take_block(&zone, Order::PAGEBLOCK).expect("room");
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _freed_while_unwinding = block;
        panic!("not in the zone");
    }));
    assert!(unwound.is_err() && !zone.is_poisoned());
    drop(take(&zone).expect("as before"));
    zone.check().expect("consistent");
}
