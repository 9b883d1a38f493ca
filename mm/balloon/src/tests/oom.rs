//! Deflating on OOM: the zone is out of memory and takes frames back.

use frames::{NoLocksHeld, Order};

use super::*;
use crate::{Shortage, StopReason};

/// Allocates a frame that may reclaim.
fn reclaiming(zone: &Zone) -> Option<Frame<'_>> {
    zone.alloc_frame(MigrateType::Movable, Reclaim::Allowed(NoLocksHeld::promise())).ok()
}

/// R-160, second half: the balloon deflates by `oom_frames` and lowers its target.
#[test]
fn r160_a_zone_out_of_memory_gets_frames_back() {
    let zone = zone_of(4096, Some(1000));
    let (balloon, host) = inflated(&zone, BalloonUnit::Frames, 600);
    let mut store: Vec<_> = std::iter::from_fn(|| one(&zone)).collect();
    assert_eq!(store.len(), 400, "the limit includes the balloon");
    store.push(reclaiming(&zone).expect("the balloon deflates"));
    let stats = balloon.stats();
    assert_eq!((stats.actual.0, stats.oom_deflated_total, stats.deflated_total), (344, 256, 256));
    assert_eq!(stats.target, stats.actual, "the balloon does not inflate again by itself");
    store.extend(std::iter::from_fn(|| reclaiming(&zone)));
    assert_eq!((store.len(), balloon.stats().actual.0), (1000, 0));
    check(&balloon, &host);
}

#[test]
fn a_balloon_of_blocks_deflates_a_whole_block() {
    let zone = zone_of(4096, Some(1100));
    let (balloon, host) = inflated(&zone, BalloonUnit::BlocksFirst, 1024);
    let _store: Vec<_> = std::iter::from_fn(|| one(&zone)).collect();
    assert!(zone.alloc_block(Order::SINGLE, MigrateType::Movable, Reclaim::NotAllowed).is_err());
    assert!(reclaiming(&zone).is_some());
    assert_eq!((balloon.stats().blocks, balloon.stats().oom_deflated_total), (1, 512));
    check(&balloon, &host);
}

#[test]
fn a_balloon_without_oom_frames_deflates_nothing() {
    let zone = zone_of(4096, Some(600));
    let (unit, oom_frames) = (BalloonUnit::Frames, FrameCount(0));
    let config = BalloonConfig { unit, oom_frames, ..BalloonConfig::default() };
    let (balloon, host) = RecordingHost::of_balloon(&zone, config);
    assert_eq!(balloon.set_target(FrameCount(300)).stop, StopReason::Reached);
    let _store: Vec<_> = std::iter::from_fn(|| one(&zone)).collect();
    assert!(reclaiming(&zone).is_none());
    assert_eq!((balloon.stats().actual.0, zone.shrinkable().0), (300, 0));
    check(&balloon, &host);
}

/// Inflating makes the zone short of memory, and the zone asks its shrinkers: the inflating balloon
/// frees nothing.
#[test]
fn inflating_does_not_deflate_itself() {
    let zone = zone_of(4096, Some(600));
    let (balloon, host) = inflated(&zone, BalloonUnit::Frames, 300);
    let _store: Vec<_> = std::iter::from_fn(|| one(&zone)).collect();
    let change = balloon.set_target(FrameCount(400));
    assert_eq!(
        (change.stop, change.actual.0),
        (StopReason::NoMemory(Shortage::Reserve), 300),
        "an inflating balloon deflates nothing"
    );
    assert_eq!(balloon.reclaim(FrameCount(100)), FrameCount(0), "nor does its call to reclaim");
    assert_eq!((balloon.stats().oom_deflated_total, balloon.stats().actual.0), (0, 300));
    check(&balloon, &host);
}

/// Deflating on OOM never raises the target: isolated frames are still to be deflated.
#[test]
fn deflate_on_oom_does_not_raise_the_target() {
    let zone = zone_of(4096, Some(1000));
    let (balloon, host) = inflated(&zone, BalloonUnit::Frames, 2);
    let isolated: Vec<_> =
        listed(&balloon).into_iter().map(|pfn| zone.isolate(pfn).expect("movable")).collect();
    assert_eq!(balloon.deflate().stop, StopReason::Isolated { left: FrameCount(2) });
    assert_eq!(zone.shrink(FrameCount(1), &NoLocksHeld::promise()), FrameCount(0));
    assert_eq!(balloon.stats().target, FrameCount(0));
    drop(isolated);
    check(&balloon, &host);
}

/// A balloon allocates from the free lists, so it gets nothing from a poisoned zone.
#[test]
fn a_balloon_takes_nothing_of_a_poisoned_zone() {
    let zone = zone_of(4096, None);
    let (balloon, host) = inflated(&zone, BalloonUnit::BlocksFirst, 600);
    let take = || zone.reattach(FrameCount(1)).take(MigrateType::Movable).map(drop);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(take)).expect_err("nothing is reserved");
    let refused = StopReason::NoMemory(Shortage::Zone(frames::AllocError::Poisoned));
    assert_eq!(balloon.set_target(FrameCount(1200)).stop, refused);
    assert_eq!(
        balloon.set_target(FrameCount(0)).stop,
        StopReason::Reached,
        "the host gives its frames back"
    );
    assert_eq!((balloon.stats().actual.0, zone.stats().lost.0), (0, 600));
    drop(host);
}
