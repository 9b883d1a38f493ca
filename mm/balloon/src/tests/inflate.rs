//! Targets that are reached, reduced, superseded or refused.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use frames::{AllocError, NoLocksHeld, Order, Shrinker, ShrinkerPriority};

use super::*;
use crate::test_host::Message;
use crate::{InflateError, MAX_BATCH, Shortage, StopReason};

#[test]
fn whole_blocks_first_then_single_frames() {
    let zone = zone();
    let (balloon, host) = balloon_of(&zone, BalloonUnit::BlocksFirst);
    let change = balloon.set_target(FrameCount(1100));
    assert_eq!(
        (change.stop, change.actual.0, change.is_capped()),
        (StopReason::Reached, 1100, false)
    );
    let stats = balloon.stats();
    assert_eq!((stats.blocks, stats.frames.0, stats.isolated.0), (2, 76, 0));
    assert_eq!(zone.stats().in_use.0, 1100);
    check(&balloon, &host);
    // Deflating takes single frames first, then a block; the excess comes back as single frames.
    assert_eq!(balloon.set_target(FrameCount(1024)).stop, StopReason::Reached);
    assert_eq!((balloon.stats().blocks, balloon.stats().frames.0), (2, 0));
    assert_eq!(balloon.set_target(FrameCount(1000)).stop, StopReason::Reached);
    assert_eq!((balloon.stats().blocks, balloon.stats().frames.0), (1, 488));
    check(&balloon, &host);
    assert_eq!(balloon.deflate().actual.0, 0);
    assert_eq!(zone.stats().in_use.0, 0);
    check(&balloon, &host);
}

#[test]
fn unit_frames_takes_single_frames_only() {
    let zone = zone();
    let (balloon, host) = inflated(&zone, BalloonUnit::Frames, 1024);
    assert_eq!((balloon.stats().blocks, balloon.stats().frames.0), (0, 1024));
    check(&balloon, &host);
}

/// Every pageblock has a frame of another owner that cannot be moved.
#[test]
fn an_arena_without_a_whole_block_gives_single_frames() {
    let zone = zone();
    let mut all: Vec<_> = std::iter::from_fn(|| one(&zone)).collect();
    all.retain(|frame| frame.pfn().0 % 512 == 7);
    assert_eq!(all.len(), 8);
    let (balloon, host) = inflated(&zone, BalloonUnit::BlocksFirst, 1024);
    assert_eq!((balloon.stats().blocks, balloon.stats().frames.0), (0, 1024));
    check(&balloon, &host);
}

/// A target counts once it is set, before it is reached; a resize towards an older one stops.
#[test]
fn a_new_target_counts_before_it_is_reached() {
    let zone = zone();
    let (balloon, host) = balloon_of(&zone, BalloonUnit::Frames);
    let slow = balloon.start_resize(FrameCount(2000)).expect("not called by the host");
    let other = Arc::clone(&balloon);
    let newer =
        std::thread::spawn(move || other.set_target(FrameCount(7))).join().expect("no panic");
    assert_eq!((newer.stop, newer.actual.0), (StopReason::Reached, 7));
    let change = slow.run();
    assert_eq!(
        (change.stop, change.actual.0, balloon.stats().target.0),
        (StopReason::Superseded, 7, 7)
    );
    drop(slow);
    let cut = balloon.start_resize(FrameCount(2000)).expect("not called by the host");
    balloon.keep_current_size();
    assert_eq!((cut.run().stop, balloon.stats().target.0), (StopReason::Superseded, 7));
    check(&balloon, &host);
}

/// no lock is held while the zone reclaims, and a failure changes nothing.
#[test]
fn r151_allocation_holds_no_lock_and_fails_cleanly() {
    #[derive(Debug, Default)]
    struct Probe {
        balloon: Mutex<std::sync::Weak<Balloon>>,
        asked: AtomicBool,
    }
    impl Shrinker for Probe {
        fn count(&self) -> FrameCount {
            FrameCount(1)
        }
        fn scan(&self, _: FrameCount, _: &NoLocksHeld) -> FrameCount {
            let balloon = self.balloon.lock().expect("no panic").upgrade().expect("alive");
            assert!(
                balloon.device.try_lock().is_some() && balloon.inner.try_lock().is_some(),
                "a lock is held"
            );
            self.asked.store(true, SeqCst);
            FrameCount(0)
        }
    }
    let zone = zone_of(4096, Some(600));
    let (balloon, host) = balloon_of(&zone, BalloonUnit::Frames);
    let probe = Arc::new(Probe::default());
    *probe.balloon.lock().expect("no panic") = Arc::downgrade(&balloon);
    let shrinker: std::sync::Weak<Probe> = Arc::downgrade(&probe);
    let _registered = zone.register_shrinker(ShrinkerPriority::Cache, shrinker);
    let mut others: Vec<_> = std::iter::from_fn(|| one(&zone)).collect();
    let before = balloon.stats();
    let change = balloon.set_target(FrameCount(10));
    assert_eq!(change.stop, StopReason::NoMemory(Shortage::Reserve), "the zone is full");
    assert!(probe.asked.load(SeqCst), "the zone was asked to make room");
    let after = balloon.stats();
    assert_eq!((after.actual, after.inflated_total), (before.actual, before.inflated_total));
    assert_eq!((after.allocation_failures, host.log().len()), (1, 0));
    // The balloon gets only the free frames above the reserve.
    let reserve = usize::try_from(zone.watermarks().min.0).expect("small");
    others.truncate(others.len() - reserve - 4);
    let change = balloon.set_target(FrameCount(10));
    assert_eq!(
        (change.stop, change.actual.0),
        (StopReason::NoMemory(Shortage::Reserve), 4),
        "the reserve stays"
    );
    check(&balloon, &host);
}

/// R-160, first half: a batch is one message, and its frames are free only after the host was told.
#[test]
fn r160_frames_are_free_after_the_host_was_told() {
    let zone = zone();
    let (balloon, host) = balloon_of(&zone, BalloonUnit::Frames);
    let count = 3 * MAX_BATCH as u64;
    assert_eq!(balloon.set_target(FrameCount(count)).stop, StopReason::Reached);
    let sizes: Vec<_> = host
        .log()
        .iter()
        .map(|message| matches!(message, Message::Inflate(p) if p.len() == MAX_BATCH))
        .collect();
    assert_eq!(sizes, [true; 3], "three messages of 256 frames each");
    host.clear_log();
    let in_messages = Arc::new(AtomicBool::new(true));
    let (seen, inside) = (Arc::clone(&in_messages), Arc::clone(&zone));
    host.hook(move |message| {
        let Message::Deflate(ranges) = message else { return };
        // The frames are still in use, so no other owner can get them.
        seen.fetch_and(ranges.iter().all(|range| inside.get(range.first).is_some()), SeqCst);
    });
    assert_eq!(balloon.deflate().stop, StopReason::Reached);
    assert!(in_messages.load(SeqCst), "a frame was free before the host was told");
    assert_eq!((host.log().len(), zone.stats().in_use.0), (3, 0));
    let stats = balloon.stats();
    assert_eq!((stats.inflate_messages, stats.deflate_messages), (3, 3));
    assert_eq!((stats.inflated_total, stats.deflated_total), (count, count));
}

#[test]
fn a_target_above_the_zone_leaves_the_reserve() {
    let zone = zone();
    let (balloon, host) = balloon_of(&zone, BalloonUnit::BlocksFirst);
    let change = balloon.set_target(FrameCount(u64::MAX));
    assert!(change.is_capped());
    assert_eq!((change.asked.0, change.target), (u64::MAX, balloon.max_target()));
    assert_eq!((change.stop, change.actual), (StopReason::Reached, change.target));
    assert_eq!(zone.stats().in_use.0 + zone.watermarks().min.0, 4096);
    assert!(one(&zone).is_some(), "the reserve is left");
    check(&balloon, &host);
    // The limit is lowered below the balloon's size: nothing breaks, and the next target fits.
    zone.set_limit(Some(FrameCount(1000)));
    assert!(balloon.max_target().0 < 1000);
    let change = balloon.set_target(FrameCount(2000));
    assert_eq!((change.is_capped(), change.stop), (true, StopReason::Reached));
    check(&balloon, &host);
}

#[test]
fn the_last_target_set_wins_mid_way() {
    let zone = zone();
    let (balloon, host) = balloon_of(&zone, BalloonUnit::Frames);
    let (first, second) = (Arc::clone(&balloon), Arc::clone(&balloon));
    // During the first batch another thread sets a smaller target.
    let newer = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&newer);
    let once = AtomicBool::new(true);
    host.hook(move |_| {
        if once.swap(false, SeqCst) {
            let second = Arc::clone(&second);
            *slot.lock().expect("no panic") =
                Some(std::thread::spawn(move || second.set_target(FrameCount(10))));
            // Once the target is set, the other thread waits for the device lock, which this one
            // holds.
            while first.inner.lock().target() != FrameCount(10) {
                std::thread::yield_now();
            }
        }
    });
    let change = balloon.set_target(FrameCount(2000));
    assert_eq!((change.stop, change.target.0), (StopReason::Superseded, 2000));
    let newer = newer.lock().expect("no panic").take().expect("spawned").join().expect("no panic");
    assert_eq!((newer.stop, newer.actual.0), (StopReason::Reached, 10));
    assert_eq!(balloon.stats().inflated_total, MAX_BATCH as u64, "one batch of the older target");
    host.unhook();
    check(&balloon, &host);
}

#[test]
fn a_refusal_ends_the_resize_and_frees_the_batch() {
    for unit in [BalloonUnit::BlocksFirst, BalloonUnit::Frames] {
        let zone = zone();
        let (balloon, host) = inflated(&zone, unit, 600);
        host.refuse.store(1, SeqCst);
        let change = balloon.set_target(FrameCount(2000));
        assert_eq!(
            change.stop,
            StopReason::Refused(InflateError::Declined { why: "the test refuses" })
        );
        assert_eq!((change.actual.0, zone.stats().in_use.0), (600, 600));
        assert_eq!(
            (host.refuse.load(SeqCst), balloon.stats().host_refusals),
            (0, 1),
            "the host is asked once"
        );
        check(&balloon, &host);
        assert_eq!(
            balloon.set_target(FrameCount(2000)).stop,
            StopReason::Reached,
            "the next resize succeeds"
        );
        check(&balloon, &host);
    }
}

/// The OS cannot take heap memory, which belongs to the allocator.
#[test]
fn the_os_host_refuses_heap_memory() {
    let zone = zone();
    let balloon =
        Balloon::new(Arc::clone(&zone), Arc::new(crate::OsHost), BalloonConfig::default())
            .expect("room");
    let change = balloon.set_target(FrameCount(600));
    assert!(matches!(change.stop, StopReason::Refused(InflateError::Discard(_))), "{change:?}");
    assert_eq!((change.actual.0, zone.stats().in_use.0), (0, 0));
}

#[test]
fn a_host_that_calls_back_is_refused() {
    let zone = zone();
    let (balloon, host) = balloon_of(&zone, BalloonUnit::Frames);
    let again = Arc::downgrade(&balloon);
    let answers = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&answers);
    host.hook(move |_| {
        let balloon = again.upgrade().expect("alive");
        seen.lock()
            .expect("no panic")
            .push((balloon.set_target(FrameCount(1)).stop, balloon.stats().target.0));
    });
    assert_eq!(balloon.set_target(FrameCount(5)).stop, StopReason::Reached);
    assert_eq!(*answers.lock().expect("no panic"), [(StopReason::Reentered, 5)]);
    host.unhook();
    check(&balloon, &host);
}

#[test]
fn a_host_that_panics_leaves_nothing_behind() {
    let zone = zone();
    let (balloon, host) = balloon_of(&zone, BalloonUnit::BlocksFirst);
    host.hook(|_| panic!("a bug of the host"));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        balloon.set_target(FrameCount(600))
    }));
    assert!(caught.is_err());
    host.unhook();
    assert_eq!(zone.stats().in_use.0, 0, "unwinding freed the batch");
    check(&balloon, &host);
    assert_eq!(
        balloon.set_target(FrameCount(600)).stop,
        StopReason::Reached,
        "and no lock is held"
    );
    check(&balloon, &host);
}

#[test]
fn a_block_that_holds_the_reserve_is_not_taken() {
    // The zone has one pageblock of 512 frames, and 64 of them are the reserve.
    let zone = zone_of(512, None);
    let (balloon, host) = balloon_of(&zone, BalloonUnit::BlocksFirst);
    let change = balloon.set_target(FrameCount(512));
    assert_eq!((change.stop, change.actual), (StopReason::Reached, balloon.max_target()));
    assert_eq!(balloon.stats().blocks, 0, "a whole block would take the reserve");
    let all: Vec<_> = std::iter::from_fn(|| one(&zone)).collect();
    assert_eq!(
        zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).err(),
        Some(AllocError::NoFrames)
    );
    assert_eq!(all.len() as u64, zone.watermarks().min.0);
    assert!(zone.alloc_block(Order::SINGLE, MigrateType::Movable, Reclaim::NotAllowed).is_err());
    check(&balloon, &host);
}
