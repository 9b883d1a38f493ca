use super::*;
use crate::{FRAME_SIZE, FrameCount, Reclaim, ZoneConfig};

fn extents() -> Extents {
    let zone = Zone::new(ZoneConfig {
        capacity: FrameCount(1024),
        backing: Backing::Heap,
        ..ZoneConfig::default()
    });
    let owner = Arc::new(zone.expect("a small zone")).reserve_owner().expect("the only one");
    Extents::new(owner, 1024, OwnerWords::default(), Backing::Heap).expect("small tables")
}

fn filled(extents: &Extents, shape: Shape, frames: usize) -> ExtentId {
    let mut fresh = extents.create(shape, 7).expect("room");
    (0..frames).for_each(|position| fresh.attach(position, Reclaim::NotAllowed).expect("room"));
    let id = fresh.id();
    assert_eq!(fresh.release(), Leaving::Quiet);
    id
}

#[test]
fn bytes_written_exclusively_are_read_shared_across_frames() {
    let extents = extents();
    let id = filled(&extents, Shape::Chain, 3);
    let range = FRAME_SIZE - 3..FRAME_SIZE + 5;
    let mut held = extents.try_exclusive(id).expect("nobody is inside");
    let (head, tail) = held.pieces_mut(range.clone()).expect("inside");
    head.iter_mut().chain(tail).zip(1..).for_each(|(byte, value)| *byte = value);
    let _ = held.release();
    let shared = extents.share(id).expect("live");
    let (head, tail) = shared.pieces(range).expect("inside");
    assert_eq!([head, tail].concat(), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn ranges_outside_are_refused() {
    let extents = extents();
    let id = filled(&extents, Shape::Chain, 2);
    let shared = extents.share(id).expect("live");
    assert!(shared.pieces(FRAME_SIZE * 2 - 1..FRAME_SIZE * 2 + 1).is_none());
    assert!(shared.pieces(FRAME_SIZE * 16..FRAME_SIZE * 16 + 1).is_none());
    assert!(shared.pieces(usize::MAX - 1..usize::MAX).is_none());
    assert!(shared.pieces(1..FRAME_SIZE * 2 + 1).is_none());
}

#[test]
fn readers_share_and_keep_changers_out() {
    let extents = extents();
    let id = filled(&extents, Shape::Single, 1);
    let (one, two) = (extents.share(id).expect("live"), extents.share(id).expect("live"));
    assert!(extents.try_exclusive(id).is_none());
    assert!(extents.mark_pending(id));
    assert_eq!(one.release(), Leaving::Quiet);
    assert_eq!(two.release(), Leaving::Pending);
    let mut held = extents.try_exclusive(id).expect("everybody left");
    assert!(held.take_pending());
    assert!(!held.take_pending());
    assert_eq!(held.release(), Leaving::Quiet);
}

#[test]
fn a_mark_needs_somebody_to_see_it() {
    let extents = extents();
    let id = filled(&extents, Shape::Single, 1);
    assert!(!extents.mark_pending(id));
    let held = extents.try_exclusive(id).expect("idle");
    assert!(extents.mark_pending(id));
    assert_eq!(held.release(), Leaving::Pending);
}

#[test]
fn a_destroyed_extent_is_vacant_and_its_frames_are_free() {
    let extents = extents();
    let before = extents.zone().stats().in_use;
    let id = filled(&extents, Shape::Chain, 5);
    assert_eq!(extents.zone().stats().in_use.0, before.0 + 5);
    extents.try_exclusive(id).expect("idle").destroy();
    assert_eq!(extents.zone().stats().in_use, before);
    assert!(extents.share(id).is_none());
    assert!(extents.try_exclusive(id).is_none());
    assert!(extents.tag(id).is_none());
    assert!(!extents.mark_pending(id));
}

#[test]
fn ids_keep_shape_and_index_and_any_bits_are_harmless() {
    let extents = extents();
    let (single, chain) = (filled(&extents, Shape::Single, 1), filled(&extents, Shape::Chain, 1));
    assert_eq!((single.shape(), chain.shape()), (Shape::Single, Shape::Chain));
    assert_eq!(ExtentId::from_bits(single.to_bits()), single);
    assert!(extents.share(ExtentId::from_bits(u32::MAX)).is_none());
    assert_eq!(extents.tag(single), Some(7));
}

#[test]
fn a_limit_on_the_zone_reaches_attach_and_changes_nothing() {
    let extents = extents();
    extents.zone().set_limit(Some(FrameCount(2)));
    let mut held = extents.create(Shape::Chain, 0).expect("room");
    held.attach(0, Reclaim::NotAllowed).expect("below the limit");
    held.attach(1, Reclaim::NotAllowed).expect("below the limit");
    assert!(held.attach(2, Reclaim::NotAllowed).is_err());
    assert!(!held.has_frame(2));
    held.destroy();
    assert_eq!(extents.zone().stats().in_use, FrameCount(0));
}

/// S-34: the holder is off its core, or in a page fault, and readers wait for it.
#[test]
#[cfg_attr(miri, ignore = "counts no CPU time")]
fn s34_a_reader_that_waits_leaves_the_cpu_alone() {
    let extents = extents();
    for ends in [false, true] {
        let id = filled(&extents, Shape::Single, 1);
        let held = extents.try_exclusive(id).expect("idle");
        let hold = std::time::Duration::from_millis(400);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let before = sys::host::thread_cpu_time();
                let found = extents.share(id).is_some();
                (found, sys::host::thread_cpu_time() - before)
            });
            std::thread::sleep(hold);
            if ends {
                held.destroy();
            } else {
                let _ = held.release();
            }
            let (found, used) = reader.join().expect("no panic");
            assert_eq!(found, !ends);
            assert!(used < hold / 20, "a reader used {used:?} of the {hold:?} it waited");
        });
    }
}
