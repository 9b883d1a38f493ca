//! Two per-CPU lists under loom. The model's thread uses the first list, the thread it starts the
//! second. These schedules do not exist with one list.

use sync::{Arc, thread};

use crate::{
    AllocError, Backing, Frame, FrameCount, MigrateType, Order, Pfn, Reclaim, Zone, ZoneConfig,
};

/// Returns a zone with two lists in which at most `limit` frames may be in use.
fn zone(limit: u64) -> Arc<Zone> {
    zone_of(8, limit)
}

fn zone_of(capacity: u64, limit: u64) -> Arc<Zone> {
    sync::set_shards(2);
    let limit = Some(FrameCount(limit));
    let backing = Backing::AnonymousSmall;
    let config =
        ZoneConfig { capacity: FrameCount(capacity), limit, backing, ..ZoneConfig::default() };
    let zone = Zone::new(config).expect("a tiny zone");
    assert_eq!(zone.allocator().lists.len(), 2);
    assert_eq!(sync::this_shard(2), 0, "the model's thread gets the first list");
    Arc::new(zone)
}

fn alloc(zone: &Zone) -> Result<Pfn, AllocError> {
    zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).map(Frame::into_pfn)
}

fn free(zone: &Zone, pfn: Pfn) {
    drop(Frame::new(zone, pfn));
}

/// Returns the number of frames on each list.
fn cached(zone: &Zone) -> [u32; 2] {
    [0, 1].map(|list| zone.allocator().lists[list].lock().len())
}

/// Runs `work` on another thread, which uses the second list.
fn on_the_other_list<T: 'static>(
    zone: &Arc<Zone>,
    work: impl FnOnce(&Zone) -> T + 'static,
) -> thread::JoinHandle<T> {
    let zone = Arc::clone(zone);
    thread::spawn(move || {
        assert_eq!(sync::this_shard(2), 1);
        work(&zone)
    })
}

/// the only frame that the limit allows is on the other thread's list. The request takes it
/// from there. A refusal means that the frame is in use.
#[test]
fn a_request_takes_the_frame_of_the_other_list() {
    sync::model(|| {
        let zone = zone(1);
        free(&zone, alloc(&zone).expect("room for one"));
        assert_eq!(cached(&zone), [1, 0]);
        let other = on_the_other_list(&zone, alloc);
        let mine = alloc(&zone);
        let theirs = other.join().expect("no panic");
        match (mine, theirs) {
            (Ok(pfn), Err(AllocError::Limit)) | (Err(AllocError::Limit), Ok(pfn)) => {
                free(&zone, pfn)
            }
            both => panic!("exactly one thread must get the frame: {both:?}"),
        }
        zone.check().expect("consistent");
    });
}

/// One thread takes the last two frames, one of them for its list. The other thread waits for that
/// one: it is not refused while the frame is between the free lists and the per-CPU list.
#[test]
fn a_request_waits_for_frames_being_refilled() {
    // Enough that a list may hold two frames.
    const IN_USE: u64 = 128;
    sync::model(|| {
        let zone = zone_of(IN_USE + 8, IN_USE + 2);
        for _ in 0..IN_USE / u64::from(Order::MAX.frames()) {
            let block = zone.alloc_block(Order::MAX, MigrateType::Movable, Reclaim::NotAllowed);
            std::mem::forget(block.expect("room"));
        }
        let other = on_the_other_list(&zone, alloc);
        let mine = alloc(&zone);
        let theirs = other.join().expect("no panic");
        assert!(mine.is_ok() && theirs.is_ok(), "two frames were free: {mine:?}, {theirs:?}");
    });
}

/// A frame of the first list is freed to the second one, while a thread of the first list requests
/// it.
#[test]
fn a_frame_freed_on_the_other_list_is_found() {
    sync::model(|| {
        let zone = zone(1);
        let pfn = alloc(&zone).expect("room for one");
        let other = on_the_other_list(&zone, move |zone| free(zone, pfn));
        let early = alloc(&zone);
        other.join().expect("no panic");
        match early {
            Ok(pfn) => free(&zone, pfn),
            Err(error) => {
                assert_eq!(
                    (error, cached(&zone)),
                    (AllocError::Limit, [0, 1]),
                    "the frame was freed after the refusal"
                );
                free(&zone, alloc(&zone).expect("the frame is free now"));
            }
        }
        assert_eq!(cached(&zone), [1, 0], "a drain leaves no frame on the second list");
        zone.check().expect("consistent");
    });
}

/// Each list holds a frame of a type that neither thread requests, so both threads drain both lists
/// at once. There are two frames for two requests: neither is refused.
#[test]
fn two_requests_that_drain_both_lists_are_both_served() {
    sync::model(|| {
        let zone = zone(2);
        let [first, second] = [(); 2].map(|()| alloc(&zone).expect("room for two"));
        free(&zone, first);
        let unmovable = |zone: &Zone| {
            zone.alloc_frame(MigrateType::Unmovable, Reclaim::NotAllowed).map(Frame::into_pfn)
        };
        let other = on_the_other_list(&zone, move |zone| {
            free(zone, second);
            unmovable(zone)
        });
        let (mine, theirs) = (unmovable(&zone), other.join().expect("no panic"));
        let (mine, theirs) = (mine.expect("a frame for each"), theirs.expect("a frame for each"));
        assert_ne!(mine, theirs);
        [mine, theirs].into_iter().for_each(|pfn| free(&zone, pfn));
        assert_eq!(zone.stats().in_use, FrameCount(0));
        zone.check().expect("consistent");
    });
}

/// A list is drained while its thread frees a frame to it. The frame is on the list or free, never
/// lost.
#[test]
fn a_drain_of_the_other_list_loses_no_frame() {
    sync::model(|| {
        let zone = zone(2);
        let pfn = alloc(&zone).expect("room for two");
        let other = on_the_other_list(&zone, move |zone| free(zone, pfn));
        zone.drain();
        other.join().expect("no panic");
        assert!(matches!(cached(&zone), [0, 0 | 1]), "{:?}", cached(&zone));
        assert_eq!(zone.stats().in_use, FrameCount(0));
        let both = [alloc(&zone), alloc(&zone)].map(|pfn| pfn.expect("both are free"));
        both.into_iter().for_each(|pfn| free(&zone, pfn));
        zone.check().expect("consistent");
    });
}
