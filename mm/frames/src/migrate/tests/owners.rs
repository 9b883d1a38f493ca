//! What an owner may do with which frames.

use super::*;

/// Returns whether `work` panics. Suppresses the panic's message.
fn refused(work: impl FnOnce()) -> bool {
    quietly(|| std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err())
}

/// R-289 for frames, R-011: an owner releases only its own frames, and each once, whether frames
/// move or not.
#[test]
fn r009_an_owner_releases_only_what_it_has() {
    for movability in [Movability::On, Movability::Off] {
        let zone = zone_where(movability);
        let (one, other) = (Driver::new(&zone), zone.reserve_owner().expect("a number"));
        let pfn = one.take();
        assert!(refused(|| other.release(pfn)), "it belongs to another owner");
        assert!(other.reclaim_from_owner(pfn).is_none(), "it belongs to another owner");
        assert_eq!(references(&zone, pfn), 1);
        one.release(pfn);
        assert!(refused(|| one.owner.release(pfn)), "it was released before");
        assert!(one.owner.reclaim_from_owner(pfn).is_none(), "it was released before");
        let plain = zone.alloc_frame(one.owner.migrate_type(), Reclaim::NotAllowed).expect("room");
        assert!(refused(|| one.owner.release(plain.pfn())), "it has no owner");
        drop(plain);
        assert_eq!(zone.stats().in_use, FrameCount(0));
        zone.check().expect("consistent");
    }
}

/// an owner makes only single frames of its zone without an owner movable. A
/// refused frame stays as it was, its private value included.
#[test]
fn r072_set_movable_refuses_an_owned_frame() {
    for movability in [Movability::On, Movability::Off] {
        let (zone, elsewhere) = (zone_where(movability), zone());
        let (one, other) = (Driver::new(&zone), zone.reserve_owner().expect("a number"));
        let pfn = one.take();
        let got = || zone.get(pfn).expect("in use");
        assert_eq!(
            other.set_movable(got(), 7, 7),
            Err(SetMovableError::Taken { pfn }),
            "it belongs to another owner"
        );
        assert_eq!((zone.tables().frames.private(pfn), references(&zone, pfn)), (Some((41, 3)), 1));
        let strange = take(&elsewhere).expect("room");
        let pfn_there = strange.pfn();
        assert_eq!(
            other.set_movable(strange, 7, 7),
            Err(SetMovableError::OtherZone { pfn: pfn_there })
        );
        assert_eq!(elsewhere.stats().in_use, FrameCount(0), "freed in its own zone");
        let block = take_block(&zone, Order::new(2).expect("small")).expect("room");
        let first = block.first();
        let of_block = other.set_movable(zone.get(first).expect("in use"), 7, 7);
        assert_eq!(of_block, Err(SetMovableError::Taken { pfn: first }), "a block is no frame");
        assert_eq!(
            (state(&zone, block.first()).owner(), references(&zone, block.first())),
            (None, 1)
        );
        drop(block);
        one.release(pfn);
        zone.check().expect("consistent");
    }
}

/// The largest private value is reserved; all others are valid. A frame with other references can
/// become movable, but not while its page lock is held.
#[test]
fn set_movable_rejects_unusable_frames() {
    let zone = zone();
    let owner = zone.reserve_owner().expect("a number");
    let fresh = || zone.alloc_frame(owner.migrate_type(), Reclaim::NotAllowed).expect("room");
    assert_eq!(
        owner.set_movable(fresh(), u32::MAX, 0),
        Err(SetMovableError::Private { private: u32::MAX })
    );
    assert_eq!(zone.stats().in_use, FrameCount(0), "freed");
    let pfn = owner.set_movable(fresh(), u32::MAX - 1, 9).expect("no other reference");
    assert_eq!(zone.tables().frames.private(pfn), Some((u32::MAX - 1, 9)));
    owner.release(pfn);
    let frame = fresh();
    let other = zone.get(frame.pfn()).expect("in use");
    let lock = other.try_lock().expect("not locked");
    let again = zone.get(frame.pfn()).expect("in use");
    assert_eq!(owner.set_movable(again, 1, 0), Err(SetMovableError::Taken { pfn: frame.pfn() }));
    drop(lock);
    let pfn = owner.set_movable(frame, 1, 0).expect("two references, no lock");
    assert_eq!(state(&zone, pfn).owner(), Some(owner.id()));
    assert!(!state(&zone, pfn).is_locked());
    drop(other);
    owner.release(pfn);
    zone.check().expect("consistent");
}

/// the frames of a pinned owner stay while another owner's move. It releases them like any
/// other owner.
#[test]
fn r011_a_pinned_owners_frames_alone_stay() {
    let zone = zone();
    let (driver, pinned) = (Driver::new(&zone), zone.reserve_pinned_owner().expect("a number"));
    assert_eq!(
        (driver.owner.migrate_type(), pinned.migrate_type()),
        (MigrateType::Movable, MigrateType::Unmovable)
    );
    // Its callbacks would agree.
    let ops: Weak<dyn MovableOps> = Arc::downgrade(&driver) as _;
    pinned.publish(ops);
    let frame = zone.alloc_frame(pinned.migrate_type(), Reclaim::NotAllowed).expect("room");
    let (stays, moves) =
        (pinned.set_movable(frame, 41, 3).expect("no other reference"), driver.take());
    assert!(zone.isolate(stays).is_none(), "it is pinned");
    assert_eq!(
        (driver.asked.load(Relaxed), references(&zone, stays)),
        (0, 1),
        "an attempt leaves nothing behind"
    );
    assert!(zone.isolate(moves).is_some());
    pinned.release(stays);
    driver.release(moves);
    assert_eq!(zone.stats().in_use, FrameCount(0));
    zone.check().expect("consistent");
}
