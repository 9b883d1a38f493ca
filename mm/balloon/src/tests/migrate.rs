//! Ballooned frames move like any other.

use std::sync::Mutex;
use std::sync::atomic::Ordering::SeqCst;

use frames::{CompactRequest, MigrateMode, Order};

use super::*;
use crate::StopReason;
use crate::recording_host::Message;

/// Three frames high up, room below.
fn three() -> (Arc<Zone>, Arc<Balloon>, Arc<RecordingHost>) {
    let zone = zone();
    let below: Vec<_> = (0..600).filter_map(|_| one(&zone)).collect();
    let (balloon, host) = balloon_of(&zone, BalloonUnit::Frames);
    assert_eq!(balloon.set_target(FrameCount(3)).stop, StopReason::Reached);
    drop(below);
    zone.drain();
    host.clear_log();
    (zone, balloon, host)
}

fn range(pfn: Pfn) -> crate::FrameRange {
    crate::FrameRange { first: pfn, order: Order::SINGLE }
}

///
#[test]
fn r152_inflated_frames_are_movable_and_lead_to_their_balloon() {
    let (zone, balloon, host) = three();
    let pfn = listed(&balloon)[1];
    let isolated = zone.isolate(pfn).expect("movable");
    assert!(zone.isolate(pfn).is_none(), "one at a time");
    let stats = balloon.stats();
    assert_eq!(
        (stats.actual.0, stats.frames.0, stats.isolated.0),
        (3, 3, 1),
        "an isolated frame counts once"
    );
    assert_eq!(host.has(), balloon.ranges(), "the host still has it");
    drop(isolated);
    assert_eq!((balloon.stats().actual.0, balloon.stats().isolated.0), (3, 0));
    assert!(host.log().is_empty(), "isolation is nothing the host hears of");
    check(&balloon, &host);
}

/// F4: a success is one. The old frame is free when the host has given it back, not before.
#[test]
fn r157_the_host_gets_the_new_frame_before_it_gives_the_old_one_back() {
    let (zone, balloon, host) = three();
    let old = listed(&balloon)[2];
    let free_in_messages = Arc::new(Mutex::new(Vec::new()));
    let (seen, inside) = (Arc::clone(&free_in_messages), Arc::clone(&zone));
    host.hook(move |_| seen.lock().expect("no panic").push(inside.get(old).is_none()));
    let before = zone.stats().in_use;
    assert!(move_one(&zone, old));
    host.unhook();
    let new = *listed(&balloon).iter().find(|&&pfn| pfn < old).expect("it moved down");
    assert_eq!(
        host.log(),
        [Message::Inflate(vec![range(new)]), Message::Deflate(vec![range(old)])]
    );
    assert_eq!(
        *free_in_messages.lock().expect("no panic"),
        [false, false],
        "R-159: not free before the message"
    );
    assert!(zone.get(old).is_none(), "free after it");
    let stats = balloon.stats();
    assert_eq!((stats.migrated_total, stats.actual.0, stats.inflated_total), (1, 3, 3));
    assert_eq!(zone.stats().in_use, before);
    check(&balloon, &host);
}

/// S-40, R-153.
#[test]
fn s40_deleting_a_migrated_frame_touches_no_list_of_migrations() {
    let (zone, balloon, host) = three();
    let frames = listed(&balloon);
    let mut batch: Vec<_> = frames.iter().filter_map(|&pfn| zone.isolate(pfn)).collect();
    assert_eq!(batch.len(), 3);
    // One of a list of three is migrated; the other two must still be where they were.
    let mut targets = vec![one(&zone).expect("free frames")];
    let report = zone.migrate_pages(&mut batch, &mut |_| targets.pop(), MigrateMode::Async);
    assert_eq!((report.migrated, batch.len(), report.out_of_frames), (1, 2, true));
    assert_eq!((balloon.stats().isolated.0, balloon.stats().actual.0), (2, 3));
    drop(batch);
    assert_eq!(balloon.stats().isolated.0, 0);
    check(&balloon, &host);
}

/// S-39, R-154: isolated frames are passed over, and when all are isolated that is an answer and no panic.
#[test]
fn s39_dequeue_passes_isolated_frames_over() {
    let (zone, balloon, host) = three();
    let frames = listed(&balloon);
    let isolated = zone.isolate(frames[0]).expect("movable");
    let change = balloon.set_target(FrameCount(1));
    assert_eq!((change.stop, change.actual.0), (StopReason::Reached, 1));
    assert_eq!(balloon.ranges(), [range(frames[0])], "the one migration has is left");
    let resize = balloon.start_resize(FrameCount(0)).expect("from outside");
    let change = resize.run();
    assert_eq!((change.stop, change.actual.0), (StopReason::Isolated { left: FrameCount(1) }, 1));
    check(&balloon, &host);
    drop(isolated);
    assert_eq!(resize.run().stop, StopReason::Reached, "the same resize gets what came back");
    drop(resize);
    assert_eq!(zone.stats().in_use.0, 0);
    check(&balloon, &host);
}

/// S-41: the host's own work makes the zone compact, on the thread that holds the device lock.
#[test]
fn s41_migration_from_inside_a_message_is_told_to_come_again() {
    let (zone, balloon, host) = three();
    let old = listed(&balloon)[2];
    let inside = Arc::clone(&zone);
    let moved = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&moved);
    host.hook(move |_| {
        let report = {
            let mut batch: Vec<_> = inside.isolate(old).into_iter().collect();
            inside.migrate_pages(&mut batch, &mut |_| one(&inside), MigrateMode::Sync)
        };
        seen.lock().expect("no panic").push((report.migrated, report.failed, report.again));
    });
    let other = Arc::clone(&zone);
    assert_eq!(balloon.set_target(FrameCount(5)).stop, StopReason::Reached);
    host.unhook();
    assert_eq!(*moved.lock().expect("no panic"), [(0, 0, 1)], "again, not failed and not moved");
    check(&balloon, &host);
    assert!(move_one(&other, old), "later it works");
    check(&balloon, &host);
}

#[test]
fn a_host_that_refuses_the_new_place_keeps_the_old_one() {
    let (zone, balloon, host) = three();
    let frames = listed(&balloon);
    host.refuse.store(1, SeqCst);
    let in_use = zone.stats().in_use;
    assert!(!move_one(&zone, frames[2]));
    assert_eq!((listed(&balloon), zone.stats().in_use), (frames, in_use));
    let stats = balloon.stats();
    assert_eq!((stats.host_refusals, stats.migrated_total, host.refuse.load(SeqCst)), (1, 0, 0));
    check(&balloon, &host);
}

#[test]
fn frame_compaction_moves_ballooned_frames_out_of_the_way() {
    let (zone, balloon, host) = three();
    assert!(listed(&balloon).iter().all(|pfn| pfn.0 >= 512), "they stand in the second pageblock");
    let report = zone.compact(CompactRequest::default());
    assert_eq!((report.frames_moved, balloon.stats().migrated_total), (3, 3));
    assert!(listed(&balloon).iter().all(|pfn| pfn.0 < 512), "and now in the first");
    check(&balloon, &host);
}

/// without movability the balloon works as before, and nothing of it moves.
#[test]
fn r011_in_a_zone_where_nothing_moves_the_balloon_works_and_stays() {
    let zone = still_zone();
    let below: Vec<_> = (0..600).filter_map(|_| one(&zone)).collect();
    let (balloon, host) = balloon_of(&zone, BalloonUnit::Frames);
    assert_eq!(balloon.set_target(FrameCount(700)).stop, StopReason::Reached);
    drop(below);
    let before = balloon.ranges();
    assert!(before.iter().all(|range| zone.isolate(range.first).is_none()));
    assert_eq!(zone.compact(CompactRequest::default()).frames_moved, 0);
    assert_eq!(balloon.ranges(), before);
    check(&balloon, &host);
    assert_eq!(balloon.set_target(FrameCount(100)).stop, StopReason::Reached);
    check(&balloon, &host);
    drop(balloon);
    assert_eq!((host.has().len(), zone.stats().in_use.0), (0, 0));
    zone.check().expect("consistent");
}

/// What has moved has moved: no frame is lost, and none counts as on the move for ever.
#[test]
fn a_host_that_panics_when_it_gives_a_moved_frame_back_does_no_harm() {
    let zone = zone_of(4096, Some(1200));
    let below: Vec<_> = (0..600).filter_map(|_| one(&zone)).collect();
    let (balloon, host) = balloon_of(&zone, BalloonUnit::Frames);
    assert_eq!(balloon.set_target(FrameCount(40)).stop, StopReason::Reached);
    drop(below);
    zone.drain();
    host.hook(|message| assert!(!matches!(message, Message::Deflate(_)), "a host's own bug"));
    let report = zone.compact(CompactRequest::default());
    assert_eq!((report.frames_moved, balloon.stats().actual.0), (40, 40));
    balloon.check().expect("consistent");
    let others: Vec<_> = std::iter::from_fn(|| one(&zone)).collect();
    assert_eq!(others.len(), 1160, "the limit is what it was");
    drop(others);
    drop(balloon);
    assert_eq!(
        (zone.stats().in_use.0, zone.stats().ballooned.0),
        (0, 0),
        "nor is anything lost at the end"
    );
    zone.check().expect("consistent");
}
