//! Migration of ballooned frames.

use std::sync::Mutex;
use std::sync::atomic::Ordering::SeqCst;

use frames::{CompactRequest, MigrateMode, Order};

use super::*;
use crate::StopReason;
use crate::test_host::Message;

/// Creates a balloon of three frames above 600 free ones.
fn three() -> (Arc<Zone>, Arc<Balloon>, Arc<RecordingHost>) {
    let zone = zone();
    let below: Vec<_> = (0..600).filter_map(|_| one(&zone)).collect();
    let (balloon, host) = inflated(&zone, BalloonUnit::Frames, 3);
    drop(below);
    zone.drain();
    host.clear_log();
    (zone, balloon, host)
}

/// Returns the range of a single frame.
fn range(pfn: Pfn) -> crate::FrameRange {
    crate::FrameRange { first: pfn, order: Order::SINGLE }
}

/// an inflated frame can be isolated once, and isolation changes no
/// size.
#[test]
fn r152_inflated_frames_are_movable() {
    let (zone, balloon, host) = three();
    let pfn = listed(&balloon)[1];
    let isolated = zone.isolate(pfn).expect("movable");
    assert!(zone.isolate(pfn).is_none(), "it is isolated already");
    let stats = balloon.stats();
    assert_eq!(
        (stats.actual.0, stats.frames.0, stats.isolated.0),
        (3, 3, 1),
        "an isolated frame counts once"
    );
    assert_eq!(host.has(), balloon.ranges(), "the host still has it");
    drop(isolated);
    assert_eq!((balloon.stats().actual.0, balloon.stats().isolated.0), (3, 0));
    assert!(host.log().is_empty(), "isolation sends no message");
    check(&balloon, &host);
}

/// F4: a migration inflates the new frame, deflates the old one and then frees it.
#[test]
fn r157_inflate_new_comes_before_deflate_old() {
    let (zone, balloon, host) = three();
    let old = listed(&balloon)[2];
    let free_in_messages = Arc::new(Mutex::new(Vec::new()));
    let (seen, inside) = (Arc::clone(&free_in_messages), Arc::clone(&zone));
    host.hook(move |_| seen.lock().expect("no panic").push(inside.get(old).is_none()));
    let before = zone.stats().in_use;
    assert!(move_one(&zone, old));
    host.unhook();
    let new = *listed(&balloon).iter().find(|&&pfn| pfn < old).expect("a lower frame");
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

/// S-40, R-153: migrating one frame of a batch leaves the others in it.
#[test]
fn s40_a_migrated_frame_touches_no_migration_list() {
    let (zone, balloon, host) = three();
    let frames = listed(&balloon);
    let mut batch: Vec<_> = frames.iter().filter_map(|&pfn| zone.isolate(pfn)).collect();
    assert_eq!(batch.len(), 3);
    // There is one target for three frames; the other two stay in the batch.
    let mut targets = vec![one(&zone).expect("free frames")];
    let report = zone.migrate_pages(&mut batch, &mut |_| targets.pop(), MigrateMode::Async);
    assert_eq!((report.migrated, batch.len(), report.out_of_frames), (1, 2, true));
    assert_eq!((balloon.stats().isolated.0, balloon.stats().actual.0), (2, 3));
    drop(batch);
    assert_eq!(balloon.stats().isolated.0, 0);
    check(&balloon, &host);
}

/// S-39, R-154: deflating skips isolated frames. If all frames are isolated it reports that.
#[test]
fn s39_dequeue_skips_isolated_frames() {
    let (zone, balloon, host) = three();
    let frames = listed(&balloon);
    let isolated = zone.isolate(frames[0]).expect("movable");
    let change = balloon.set_target(FrameCount(1));
    assert_eq!((change.stop, change.actual.0), (StopReason::Reached, 1));
    assert_eq!(balloon.ranges(), [range(frames[0])], "the isolated frame is left");
    let resize = balloon.start_resize(FrameCount(0)).expect("not called by the host");
    let change = resize.run();
    assert_eq!((change.stop, change.actual.0), (StopReason::Isolated { left: FrameCount(1) }, 1));
    check(&balloon, &host);
    drop(isolated);
    assert_eq!(
        resize.run().stop,
        StopReason::Reached,
        "the same resize deflates the returned frame"
    );
    drop(resize);
    assert_eq!(zone.stats().in_use.0, 0);
    check(&balloon, &host);
}

/// S-41: the host's own call makes the zone migrate, on the thread that holds the device lock.
#[test]
fn s41_migration_inside_a_message_is_retried() {
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
    assert!(move_one(&other, old), "a later migration succeeds");
    check(&balloon, &host);
}

#[test]
fn a_refused_migration_keeps_the_old_frame() {
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
fn frame_compaction_moves_ballooned_frames() {
    let (zone, balloon, host) = three();
    assert!(listed(&balloon).iter().all(|pfn| pfn.0 >= 512), "they start in the second pageblock");
    let report = zone.compact(CompactRequest::default());
    assert_eq!((report.frames_moved, balloon.stats().migrated_total), (3, 3));
    assert!(listed(&balloon).iter().all(|pfn| pfn.0 < 512), "they end in the first pageblock");
    check(&balloon, &host);
}

/// a balloon works without movability, and none of its frames is moved.
#[test]
fn r011_a_balloon_works_without_movability() {
    let zone = still_zone();
    let below: Vec<_> = (0..600).filter_map(|_| one(&zone)).collect();
    let (balloon, host) = inflated(&zone, BalloonUnit::Frames, 700);
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

/// The migrated frames stay migrated: none is lost, and none stays in flight.
#[test]
fn a_host_panic_in_a_migration_loses_no_frame() {
    let zone = zone_of(4096, Some(1200));
    let below: Vec<_> = (0..600).filter_map(|_| one(&zone)).collect();
    let (balloon, host) = inflated(&zone, BalloonUnit::Frames, 40);
    drop(below);
    zone.drain();
    host.hook(|message| assert!(!matches!(message, Message::Deflate(_)), "a bug of the host"));
    let report = zone.compact(CompactRequest::default());
    assert_eq!((report.frames_moved, balloon.stats().actual.0), (40, 40));
    balloon.check().expect("consistent");
    let others: Vec<_> = std::iter::from_fn(|| one(&zone)).collect();
    assert_eq!(others.len(), 1160, "the limit is unchanged");
    drop(others);
    drop(balloon);
    assert_eq!(
        (zone.stats().in_use.0, zone.stats().ballooned.0),
        (0, 0),
        "a drop loses no frame either"
    );
    zone.check().expect("consistent");
}
