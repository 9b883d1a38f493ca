//! The protocol of migration, with a scripted driver: each step of the reference counts, each way
//! to refuse.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};

use super::*;
use crate::alloc::alloc_frozen;
use crate::page::State;
use crate::zones::{heap_zone, quietly, take, take_block, zone_with};
use crate::{
    Committed, ContigError, ContigRequest, FrameCount, LockedFrame, MigrateError, MigrateType,
    MovableOps, Order, Pfn, Reclaim, Target, Zone,
};

mod driver;
mod modes;
mod owners;
mod references;

use driver::{Answer, Driver};

fn zone() -> Arc<Zone> {
    heap_zone(1024)
}

fn zone_where(movability: Movability) -> Arc<Zone> {
    zone_with(1024, |config| config.movability = movability)
}

fn state(zone: &Zone, pfn: Pfn) -> State {
    zone.tables().frames.state(pfn)
}

fn references(zone: &Zone, pfn: Pfn) -> u32 {
    state(zone, pfn).references()
}

fn migrate<'z>(zone: &'z Zone, batch: &mut Vec<Isolated<'z>>, targets: &mut Vec<Pfn>) -> Migration {
    let mut fresh = |_| {
        let frame = take(zone).ok()?;
        targets.push(frame.pfn());
        Some(frame)
    };
    zone.migrate_pages(batch, &mut fresh, MigrateMode::SyncLight)
}

/// isolation adds a reference, and each later step drops one.
#[test]
fn r068_reference_counts_of_a_move() {
    let (zone, mut targets) = (zone(), Vec::new());
    let driver = Driver::new(&zone);
    let old = driver.take();
    assert_eq!(references(&zone, old), 1);
    let mut batch = vec![zone.isolate(old).expect("movable")];
    assert_eq!((references(&zone, old), zone.isolated()), (2, 1));
    let done = migrate(&zone, &mut batch, &mut targets);
    assert_eq!((done, batch.len()), (Migration { migrated: 1, ..Migration::default() }, 0));
    let after = (references(&zone, old), references(&zone, targets[0]));
    assert_eq!(after, (0, 1), "the old frame has no reference left, the new one its owner's");
    assert_eq!(*driver.has.lock().expect("no panic inside"), targets);
    assert_eq!(
        zone.tables().frames.private(targets[0]),
        Some((41, 3)),
        "the new frame has the old one's private value"
    );
    assert_eq!((zone.stats().in_use, zone.isolated()), (FrameCount(1), 0));
    zone.check().expect("consistent");
    // The new frame is as movable as the old one was.
    assert!(zone.isolate(targets[0]).is_some());
    assert_eq!(driver.putbacks.load(Relaxed), 1);
}

/// a busy frame is tried ten times and stays isolated. Each attempt frees its
/// target.
#[test]
fn r031_a_busy_frame_is_tried_ten_times() {
    for (busy, migrated, again) in [(9, 1, 0), (10, 0, 1)] {
        let (zone, mut targets) = (zone(), Vec::new());
        let driver = Driver::new(&zone);
        let old = driver.take();
        driver.answers(Answer::AgainTimes(busy));
        let mut batch = vec![zone.isolate(old).expect("movable")];
        let done = migrate(&zone, &mut batch, &mut targets);
        assert_eq!(done, Migration { migrated, again, ..Migration::default() });
        assert_eq!((targets.len(), driver.moves.load(Relaxed)), (10, 10));
        assert_eq!(references(&zone, old), if again == 1 { 2 } else { 0 });
        batch.clear();
        assert_eq!((zone.stats().in_use, zone.isolated()), (FrameCount(1), 0));
        assert_eq!(u64::from(driver.putbacks.load(Relaxed)), again);
        zone.check().expect("consistent");
    }
}

/// a driver that fails or panics is called once, and the frame is put back.
#[test]
fn r064_a_frame_is_put_back_if_its_driver_fails() {
    for answer in [Answer::Fail, Answer::Panic] {
        let (zone, mut targets) = (zone(), Vec::new());
        let driver = Driver::new(&zone);
        let old = driver.take();
        driver.answers(answer);
        let mut batch = vec![zone.isolate(old).expect("movable")];
        let done = quietly(|| migrate(&zone, &mut batch, &mut targets));
        assert_eq!((done, batch.len()), (Migration { failed: 1, ..Migration::default() }, 0));
        assert_eq!((driver.moves.load(Relaxed), driver.putbacks.load(Relaxed)), (1, 1));
        assert_eq!((references(&zone, old), references(&zone, targets[0])), (1, 0));
        assert_eq!(*driver.has.lock().expect("no panic inside"), [old]);
        zone.check().expect("consistent");
        driver.answers(Answer::Move);
        assert!(zone.isolate(old).is_some(), "usable again");
    }
}

/// A frame that counts against the limit only once the old one is free.
struct InFlightTargets<'z>(&'z Zone);

impl<'z> Targets<'z> for InFlightTargets<'z> {
    fn next(&mut self, _: Pfn) -> Option<Target<'z>> {
        let pfn = alloc_frozen(self.0, MigrateType::Movable, Reclaim::NotAllowed).ok()?;
        let in_flight = self.0.allocator().with_buddy(|buddy, _| buddy.ledger.begin_flight(1))?;
        self.0.tables().frames.change(pfn, State::FROZEN, State::CACHED);
        Some(Target::from_cached(self.0.allocator(), pfn, in_flight))
    }
}

/// a driver that panics after the commit has moved the frame, and the counters are right.
#[test]
fn r068_a_panic_after_the_move_keeps_the_move() {
    let zone = zone();
    let driver = Driver::new(&zone);
    let old = driver.take();
    driver.answers(Answer::PanicAfterwards);
    let mut batch = vec![zone.isolate(old).expect("movable")];
    let mut targets = InFlightTargets(&zone);
    let done = quietly(|| zone.migrate_pages(&mut batch, &mut targets, MigrateMode::SyncLight));
    assert_eq!(done, Migration { migrated: 1, ..Migration::default() });
    let new = driver.has.lock().expect("no panic inside")[0];
    assert_eq!((references(&zone, old), references(&zone, new)), (0, 1));
    zone.check().expect("consistent");
}

/// S-08, S-09, R-023, R-065, L-08: released after isolation, before the move. The driver is not
/// called, no target is taken, and both frames end up free.
#[test]
fn s08_a_frame_released_after_isolation_is_not_moved() {
    let (zone, mut targets) = (zone(), Vec::new());
    let driver = Driver::new(&zone);
    let old = driver.take();
    let mut batch = vec![zone.isolate(old).expect("movable")];
    driver.release(old);
    assert_eq!(references(&zone, old), 1, "the isolation's");
    let done = migrate(&zone, &mut batch, &mut targets);
    assert_eq!((done, batch.len()), (Migration { gone: 1, ..Migration::default() }, 0));
    assert_eq!(
        (driver.moves.load(Relaxed), driver.putbacks.load(Relaxed), targets.len()),
        (0, 0, 0)
    );
    assert_eq!((zone.stats().in_use, zone.isolated()), (FrameCount(0), 0));
    zone.check().expect("consistent");
}

/// The same inside the driver's callback: it notices when it commits the target.
#[test]
fn r069_release_during_migration_frees_the_target() {
    let (zone, mut targets) = (zone(), Vec::new());
    let driver = Driver::new(&zone);
    let old = driver.take();
    driver.answers(Answer::Release);
    let mut batch = vec![zone.isolate(old).expect("movable")];
    assert_eq!(
        migrate(&zone, &mut batch, &mut targets),
        Migration { gone: 1, ..Migration::default() }
    );
    assert_eq!(targets.len(), 1);
    assert_eq!(zone.stats().in_use, FrameCount(0));
    zone.check().expect("consistent");
}

/// S-10, S-11, R-063: released before it is put back. Movable is checked before isolated: the
/// mark is still set, the owner is not.
#[test]
fn s10_a_frame_released_since_is_not_put_back() {
    let zone = zone();
    let driver = Driver::new(&zone);
    let (first, second) = (driver.take(), driver.take());
    let batch = [zone.isolate(first), zone.isolate(second)];
    driver.release(first);
    assert!(state(&zone, first).is_isolated() && state(&zone, first).owner().is_none());
    drop(batch);
    assert_eq!(driver.putbacks.load(Relaxed), 1, "of the other one");
    assert_eq!((zone.stats().in_use, zone.isolated()), (FrameCount(1), 0));
    zone.check().expect("consistent");
}

/// no target is left. Frames that were not tried stay isolated and are put back.
#[test]
fn r027_migration_stops_without_a_target() {
    let zone = zone();
    let driver = Driver::new(&zone);
    let frames = [driver.take(), driver.take()];
    let mut batch: Vec<_> = frames.iter().filter_map(|&pfn| zone.isolate(pfn)).collect();
    let done = zone.migrate_pages(&mut batch, &mut |_| None, MigrateMode::Async);
    assert_eq!((done.out_of_frames, done.again, batch.len()), (true, 2, 2));
    batch.clear();
    assert_eq!((driver.moves.load(Relaxed), driver.putbacks.load(Relaxed)), (0, 2));
    zone.check().expect("consistent");
}

/// S-03, S-05, S-06, S-07, R-060, F5: a frame that is not movable, part of a block, locked,
/// isolated or free stays untouched.
#[test]
fn s03_only_an_unlocked_movable_frame_is_isolated() {
    let zone = zone();
    let driver = Driver::new(&zone);
    let movable = driver.take();
    let taken = zone.isolate(movable).expect("movable");
    assert!(zone.isolate(movable).is_none(), "isolated once");
    drop(taken);
    let plain = take(&zone).expect("room");
    assert!(zone.isolate(plain.pfn()).is_none(), "it has no owner");
    let block = take_block(&zone, Order::new(2).expect("small")).expect("room");
    assert!(
        zone.isolate(block.first()).is_none() && zone.isolate(Pfn(block.first().0 + 1)).is_none()
    );
    let held = zone.get(movable).expect("in use");
    let locked = held.try_lock().expect("not locked");
    assert!(zone.isolate(movable).is_none(), "another thread holds its page lock");
    drop(locked);
    *driver.willing.lock().expect("no panic inside") = false;
    assert!(zone.isolate(movable).is_none(), "its owner refuses");
    *driver.willing.lock().expect("no panic inside") = true;
    let asked = driver.asked.load(Relaxed);
    drop(held);
    driver.release(movable);
    assert!(zone.isolate(movable).is_none() && zone.isolate(Pfn(u32::MAX)).is_none());
    assert_eq!(driver.asked.load(Relaxed), asked, "no owner is asked about a free frame");
    assert_eq!(references(&zone, plain.pfn()), 1, "no side effect");
    drop((plain, block));
    zone.check().expect("consistent");
}

/// S-04, R-060: the owner releases the frame inside `isolate`. The isolation's reference is then
/// the last one, and putting it frees the frame.
#[test]
fn s04_a_frame_released_in_isolate_is_freed() {
    let zone = zone();
    let driver = Driver::new(&zone);
    let pfn = driver.take();
    *driver.releases_when_asked.lock().expect("no panic inside") = true;
    assert!(zone.isolate(pfn).is_none());
    assert_eq!(zone.stats().in_use, FrameCount(0));
    zone.check().expect("consistent");
}

/// R-006, S-44: a frame loses its owner and private value before it is allocated again.
#[test]
fn s44_a_recycled_frame_has_no_owner() {
    let zone = zone();
    let driver = Driver::new(&zone);
    let pfn = driver.take();
    driver.release(pfn);
    let again = take(&zone).expect("room");
    assert_eq!(again.pfn(), pfn, "the frame freed last comes first");
    assert_eq!((state(&zone, pfn).owner(), zone.tables().frames.private(pfn)), (None, None));
}

/// the last reference of a movable frame cannot be put.
#[test]
fn r054_a_frame_cannot_be_freed_while_it_is_movable() {
    let zone = zone();
    let driver = Driver::new(&zone);
    let pfn = driver.take();
    assert_eq!(zone.allocator().put(pfn), Err(crate::PutError::Movable(pfn)));
    driver.release(pfn);
    zone.check().expect("consistent");
}

/// L-03, L-05, B10, S-32, F6, R-453: before it is published and after it ended an owner is not
/// called, and its isolated frames are freed.
#[test]
fn l03_migration_frees_frames_of_an_ended_owner() {
    let (zone, mut targets) = (zone(), Vec::new());
    let early = zone.reserve_owner().expect("a number");
    let frame = zone.alloc_frame(early.migrate_type(), Reclaim::NotAllowed).expect("room");
    let unpublished = early.set_movable(frame, 0, 0).expect("no other reference");
    assert!(zone.isolate(unpublished).is_none(), "no callbacks yet");
    early.release(unpublished);
    let driver = Driver::new(&zone);
    let (moved, put_back) = (driver.take(), driver.take());
    let mut batch = vec![zone.isolate(moved).expect("movable")];
    let held = zone.isolate(put_back).expect("movable");
    driver.release(moved);
    driver.release(put_back);
    drop(driver);
    assert_eq!(migrate(&zone, &mut batch, &mut targets).gone, 1);
    drop(held);
    assert_eq!((zone.stats().in_use, zone.isolated()), (FrameCount(0), 0));
    zone.check().expect("consistent");
}

/// R-072, F3: each owner has its own number, numbers are used again, and they run out.
#[test]
fn r072_owner_numbers_are_unique_and_reused() {
    let zone = zone();
    let owners: Vec<_> = (0..255).map(|_| zone.reserve_owner().expect("a number")).collect();
    assert!(owners.windows(2).all(|pair| pair[0].id() != pair[1].id()));
    assert_eq!(zone.reserve_owner().map(drop), Err(OwnersExhausted));
    drop(owners);
    (0..1000).for_each(|_| drop(zone.reserve_owner().expect("a number")));
}

/// R-011, B14: with movability off owners work on unmovable frames, and nothing can be isolated.
#[test]
fn r011_with_movability_off_nothing_moves() {
    let zone = zone_where(Movability::Off);
    let driver = Driver::new(&zone);
    let pfn = driver.take();
    assert_eq!(zone.tables().blocks.state(pfn.block()).migrate_type, MigrateType::Unmovable);
    assert!(zone.isolate(pfn).is_none());
    let only = pfn..Pfn(pfn.0 + 1);
    assert_eq!(
        zone.alloc_contig_range(only, ContigRequest::default()).map(drop),
        Err(ContigError::Unmovable { pfn })
    );
    assert_eq!(driver.asked.load(Relaxed), 0);
    driver.release(pfn);
    let pfn = driver.take();
    drop(driver.owner.reclaim_from_owner(pfn));
    zone.check().expect("consistent");
}

/// R-154, S-39: an owner cannot reclaim a frame while it is isolated.
#[test]
fn s39_an_isolated_frame_is_not_reclaimed() {
    let zone = zone();
    let driver = Driver::new(&zone);
    let pfn = driver.take();
    let held = zone.isolate(pfn).expect("movable");
    assert!(driver.owner.reclaim_from_owner(pfn).is_none());
    drop(held);
    drop(driver.owner.reclaim_from_owner(pfn).expect("not isolated"));
    zone.check().expect("consistent");
}

/// R-069, S-08: the same while another reference exists, so that the count alone does not decide.
#[test]
fn r069_a_released_frame_is_not_committed() {
    let (zone, mut targets) = (zone(), Vec::new());
    let driver = Driver::new(&zone);
    let old = driver.take();
    let other = zone.get(old).expect("in use");
    driver.answers(Answer::Release);
    let mut batch = vec![zone.isolate(old).expect("movable")];
    assert_eq!(
        migrate(&zone, &mut batch, &mut targets),
        Migration { gone: 1, ..Migration::default() }
    );
    assert_eq!((references(&zone, old), references(&zone, targets[0])), (1, 0), "the other one's");
    drop(other);
    assert_eq!(zone.stats().in_use, FrameCount(0));
    zone.check().expect("consistent");
}

/// A target with another reference, or of another zone, would give one frame's bytes two owners.
#[test]
fn r026_only_a_fresh_frame_of_the_zone_is_a_target() {
    let (zone, elsewhere) = (zone(), zone());
    let driver = Driver::new(&zone);
    let (pfn, taken) = (driver.take(), driver.take());
    let block = take(&elsewhere).expect("room");
    let in_use = (zone.stats().in_use, elsewhere.stats().in_use);
    let mut offers = vec![zone.get(taken), Some(block)];
    for _ in 0..2 {
        let mut batch: Vec<_> = zone.isolate(pfn).into_iter().collect();
        let report =
            zone.migrate_pages(&mut batch, &mut |_| offers.pop().flatten(), MigrateMode::Async);
        assert_eq!((report.migrated, report.failed), (0, 1));
    }
    assert_eq!(
        (driver.moves.load(Relaxed), driver.putbacks.load(Relaxed)),
        (0, 2),
        "the driver was not even asked"
    );
    assert_eq!(
        (zone.stats().in_use, elsewhere.stats().in_use.0),
        (in_use.0, in_use.1.0 - 1),
        "offered frames are freed"
    );
    zone.check().expect("consistent");
    elsewhere.check().expect("consistent");
}
