//! Model-checked: interleavings of two threads that allocate, share and free frames.
//!
//! Run with
//! `RUSTFLAGS="--cfg loom" cargo test -p memzip-frames --release --target-dir target/loom`.

use sync::Arc;

use super::super::*;
use crate::zones::{beside, take};
use crate::{AllocError, Backing, MigrateType};

fn zone(limit: Option<u64>) -> Arc<Zone> {
    let config = ZoneConfig {
        capacity: FrameCount(8),
        limit: limit.map(FrameCount),
        backing: Backing::AnonymousSmall,
        ..ZoneConfig::default()
    };
    Arc::new(Zone::new(config).expect("a tiny zone"))
}

fn model(check: impl Fn() + Sync + Send + 'static) {
    // A model with only one schedule proves nothing, so the schedules are counted.
    let schedules = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let seen = std::sync::Arc::clone(&schedules);
    sync::model(move || {
        seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        check();
    });
    let schedules = schedules.load(std::sync::atomic::Ordering::Relaxed);
    println!("{schedules} schedules");
    assert!(schedules > 10, "only {schedules} schedules");
}

#[test]
fn two_threads_never_own_the_same_frame() {
    model(|| {
        let zone = zone(None);
        let other = beside(&zone, |zone| take(zone).expect("free frames").into_pfn());
        let mine = take(&zone).expect("free frames");
        let theirs = other.join().expect("no panic");
        assert_ne!(mine.pfn(), theirs);
        drop(mine);
        assert_eq!(zone.stats().in_use, FrameCount(1));
        zone.check().expect("consistent");
    });
}

#[test]
fn a_limit_of_one_refuses_only_while_it_is_used() {
    model(|| {
        let zone = zone(Some(1));
        let other = beside(&zone, |zone| match take(zone) {
            Ok(frame) => {
                drop(frame);
                true
            }
            Err(error) => {
                assert_eq!(error, AllocError::Limit);
                false
            }
        });
        let mine = take(&zone).map(drop).is_ok();
        let theirs = other.join().expect("no panic");
        assert!(mine || theirs, "the first of them has the frame");
        assert!(take(&zone).is_ok(), "the frame is free now");
        zone.check().expect("consistent");
    });
}

///
#[test]
fn a_get_against_the_last_put_wins_or_fails() {
    model(|| {
        let zone = zone(None);
        let pfn = take(&zone).expect("free frames").into_pfn();
        // Races with the last put: either it comes too late, or the frame lives until this
        // reference is put.
        let other = beside(&zone, move |zone| zone.get(pfn).map(drop).is_some());
        // As a chain does: the reference that the number stands for becomes a value again.
        drop(zone.get(pfn).expect("in use"));
        drop(Frame::new(&zone, pfn));
        let _ = other.join().expect("no panic");
        assert!(zone.get(pfn).is_none());
        assert_eq!(zone.stats().in_use, FrameCount(0));
        zone.check().expect("consistent");
    });
}

#[test]
fn a_trim_and_an_allocation_do_not_lose_a_pageblock() {
    model(|| {
        let zone = zone(None);
        drop(take(&zone));
        let other = beside(&zone, Zone::trim);
        let frame = take(&zone);
        assert!(frame.is_ok(), "there is always a free frame");
        other.join().expect("no panic");
        zone.check().expect("consistent");
    });
}

/// A frame is freed while its pageblock is isolated for a capture. The frame is then free in the
/// pageblock or the capture is refused, but no per-CPU list keeps it.
#[test]
fn a_frame_freed_in_an_isolated_block_is_not_lost() {
    model(|| {
        let zone = zone(None);
        let pfn = take(&zone).expect("free frames").into_pfn();
        let other = beside(&zone, move |zone| drop(Frame::new(zone, pfn)));
        let isolated = {
            let mut all = zone.allocator.buddy.lock();
            all.isolate(zone.tables(), pfn.block()).is_ok()
        };
        assert!(isolated, "no other thread isolates it");
        zone.allocator.lock_all().drain(&zone.allocator);
        other.join().expect("no panic");
        // After the drain no list holds a frame of the isolated pageblock: all its frames are free
        // in it.
        let all = zone.allocator.lock_all();
        assert_eq!(all.cached(), 0);
        assert_eq!(zone.tables().blocks.state(pfn.block()).free, PAGEBLOCK_FRAMES);
        drop(all);
        zone.allocator.buddy.lock().end_isolation(zone.tables(), pfn.block());
        zone.check().expect("consistent");
    });
}

/// A reserved frame can be taken, whatever another thread allocates and frees meanwhile.
#[test]
fn a_reserved_frame_is_never_taken_by_another_thread() {
    model(|| {
        let zone = zone(Some(2));
        let mut reservation = zone.reserve(FrameCount(1)).expect("room for two");
        let other = beside(&zone, |zone| {
            let (first, second) = (take(zone), take(zone));
            assert!(first.is_ok() && second.is_err(), "one of two frames is reserved, then taken");
        });
        let mine = reservation.take(MigrateType::Movable).expect("reserved");
        other.join().expect("no panic");
        assert_eq!(zone.stats().reserved, FrameCount(0));
        drop((mine, reservation));
        zone.check().expect("consistent");
    });
}

/// A frame and a charge that do not fit together: exactly one of them is refused.
#[test]
fn a_charge_and_a_frame_do_not_both_get_the_rest() {
    model(|| {
        let zone = zone(None);
        let needed = {
            drop(take(&zone).expect("free frames"));
            let held = zone.stats().memory_bytes;
            zone.trim();
            held
        };
        zone.set_memory_limit(Some(needed + 10));
        let other = beside(&zone, |zone| {
            let first = zone.charge(40).is_ok();
            zone.uncharge(if first { 40 } else { 0 });
            zone.charge(40).is_ok()
        });
        let frame = take(&zone);
        let charged = other.join().expect("no panic");
        assert!(frame.is_ok() != charged, "{frame:?} and {charged}");
        assert!(zone.stats().memory_bytes <= needed + 10);
        drop(frame);
        zone.uncharge(if charged { 40 } else { 0 });
        zone.check().expect("consistent");
    });
}
