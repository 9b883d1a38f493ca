//! The chain's protocol under loom, with the real code: interleavings of a few threads.

use std::sync::Arc;

use super::super::*;
use crate::zones::{beside, zone_with};
use crate::{Backing, Reclaim};

fn one_frame() -> (Arc<FrameChains>, ChainId) {
    let zone = zone_with(8, |config| config.backing = Backing::AnonymousSmall);
    let owner = zone.reserve_owner().expect("the only one");
    let chains =
        FrameChains::new(owner, 4, OwnerWords::default(), Backing::Heap).expect("small tables");
    let mut fresh = chains.create(ChainKind::Single, 1).expect("room");
    fresh.attach(0, Reclaim::NotAllowed).expect("room");
    fresh.pieces_mut(0..8).expect("inside").0.fill(1);
    let id = fresh.id();
    let _ = fresh.release();
    (Arc::new(chains), id)
}

/// A reader sees all of a change or none of it (L-16, S-25). The shadow cells of the arena let
/// loom check every access.
#[test]
fn reader_against_writer() {
    sync::model(|| {
        let (chains, id) = one_frame();
        let writer = beside(&chains, move |chains| {
            if let Some(mut held) = chains.try_exclusive(id) {
                held.pieces_mut(0..8).expect("inside").0.fill(2);
                let _ = held.release();
            }
        });
        let shared = chains.share(id).expect("live");
        let bytes = shared.pieces(0..8).expect("inside").0;
        assert!(bytes == [1; 8] || bytes == [2; 8]);
        let _ = shared.release();
        writer.join().expect("no panic");
    });
}

/// Exactly one of the leaving reader and the marker gets the work (the deferred free of S-13,
/// none is lost.
#[test]
fn pending_work_is_found_by_exactly_one() {
    sync::model(|| {
        let (chains, id) = one_frame();
        let reader = beside(&chains, move |chains| {
            let shared = chains.share(id)?;
            Some(shared.release() == ReleaseStatus::Pending && free_deferred(chains, id))
        });
        let mut done = 0;
        loop {
            if free_deferred(&chains, id) {
                done += 1;
                break;
            }
            if chains.mark_pending(id) {
                break;
            }
        }
        let by_reader = reader.join().expect("no panic") == Some(true);
        assert_eq!(done + u32::from(by_reader), 1, "pending work is done once");
        assert!(chains.share(id).is_none());
    });
}

/// The same with a reader that leaves between any two steps of the marker (S-13, R-286).
#[test]
fn s13_a_mark_and_the_last_to_leave() {
    sync::model(|| {
        let (chains, id) = one_frame();
        let shared = chains.share(id).expect("live");
        let marker = beside(&chains, move |chains| {
            loop {
                if free_deferred(chains, id) {
                    return true;
                }
                if chains.mark_pending(id) {
                    return false;
                }
            }
        });
        let by_reader = shared.release() == ReleaseStatus::Pending && free_deferred(&chains, id);
        let by_marker = marker.join().expect("no panic");
        assert!(by_reader != by_marker, "the work is done once: {by_reader} {by_marker}");
        assert!(chains.share(id).is_none());
    });
}

fn free_deferred(chains: &FrameChains, id: ChainId) -> bool {
    chains.try_exclusive(id).map(Exclusive::destroy).is_some()
}

/// A stale id of a chain that is destroyed is refused, or its guard keeps the chain alive (S-04,
/// S-08).
#[test]
fn share_against_destroy_and_reuse() {
    sync::model(|| {
        let (chains, id) = one_frame();
        let owner = beside(&chains, move |chains| {
            if !free_deferred(chains, id) {
                return;
            }
            let mut fresh = chains.create(ChainKind::Single, 2).expect("room");
            fresh.attach(0, Reclaim::NotAllowed).expect("room");
            fresh.pieces_mut(0..8).expect("inside").0.fill(3);
            let _ = fresh.release();
        });
        if let Some(shared) = chains.share(id) {
            let expected = if shared.tag() == 1 { 1 } else { 3 };
            assert_eq!(shared.pieces(0..8).expect("inside").0, [expected; 8]);
            let _ = shared.release();
        }
        owner.join().expect("no panic");
    });
}

/// S-34: readers sleep while the chain is held. A reader that sleeps on after the holder left
/// would be a deadlock, which loom reports.
#[test]
fn s34_a_sleeping_reader_is_woken() {
    sync::model(|| {
        let (chains, id) = one_frame();
        let held = chains.try_exclusive(id).expect("idle");
        let reader = beside(&chains, move |chains| chains.share(id).map(Shared::release));
        let marked = chains.mark_pending(id);
        assert_eq!(held.release() == ReleaseStatus::Pending, marked);
        assert!(reader.join().expect("no panic").is_some(), "the chain is live");
    });
}

/// S-34: the same when the chain is destroyed.
#[test]
fn s34_a_sleeping_reader_sees_the_end() {
    sync::model(|| {
        let (chains, id) = one_frame();
        let held = chains.try_exclusive(id).expect("idle");
        let reader = beside(&chains, move |chains| chains.share(id).is_none());
        held.destroy();
        assert!(reader.join().expect("no panic"), "the chain is gone");
    });
}
