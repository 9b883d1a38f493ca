use super::*;
use crate::zones::heap_zone;
use crate::{Backing, FRAME_SIZE, FrameCount, Reclaim};

fn chains() -> FrameChains {
    let owner = heap_zone(1024).reserve_owner().expect("the only one");
    FrameChains::new(owner, 1024, OwnerWords::default(), Backing::Heap).expect("small tables")
}

fn filled(chains: &FrameChains, kind: ChainKind, frames: usize) -> ChainId {
    let mut fresh = chains.create(kind, 7).expect("room");
    (0..frames).for_each(|position| fresh.attach(position, Reclaim::NotAllowed).expect("room"));
    let id = fresh.id();
    assert_eq!(fresh.release(), ReleaseStatus::Clean);
    id
}

#[test]
fn shared_reads_see_exclusive_writes_across_frames() {
    let chains = chains();
    let id = filled(&chains, ChainKind::Multi, 3);
    let range = FRAME_SIZE - 3..FRAME_SIZE + 5;
    let mut held = chains.try_exclusive(id).expect("idle");
    let (head, tail) = held.pieces_mut(range.clone()).expect("inside");
    head.iter_mut().chain(tail).zip(1..).for_each(|(byte, value)| *byte = value);
    let _ = held.release();
    let shared = chains.share(id).expect("live");
    let (head, tail) = shared.pieces(range).expect("inside");
    assert_eq!([head, tail].concat(), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn ranges_outside_are_refused() {
    let chains = chains();
    let id = filled(&chains, ChainKind::Multi, 2);
    let shared = chains.share(id).expect("live");
    assert!(shared.pieces(FRAME_SIZE * 2 - 1..FRAME_SIZE * 2 + 1).is_none());
    assert!(shared.pieces(FRAME_SIZE * 16..FRAME_SIZE * 16 + 1).is_none());
    assert!(shared.pieces(usize::MAX - 1..usize::MAX).is_none());
    assert!(shared.pieces(1..FRAME_SIZE * 2 + 1).is_none());
}

#[test]
fn readers_share_and_keep_changers_out() {
    let chains = chains();
    let id = filled(&chains, ChainKind::Single, 1);
    let (one, two) = (chains.share(id).expect("live"), chains.share(id).expect("live"));
    assert!(chains.try_exclusive(id).is_none());
    assert!(chains.mark_pending(id));
    assert_eq!(one.release(), ReleaseStatus::Clean);
    assert_eq!(two.release(), ReleaseStatus::Pending);
    let mut held = chains.try_exclusive(id).expect("both readers left");
    assert!(held.take_pending());
    assert!(!held.take_pending());
    assert_eq!(held.release(), ReleaseStatus::Clean);
}

#[test]
fn a_pending_mark_needs_a_holder() {
    let chains = chains();
    let id = filled(&chains, ChainKind::Single, 1);
    assert!(!chains.mark_pending(id));
    let held = chains.try_exclusive(id).expect("idle");
    assert!(chains.mark_pending(id));
    assert_eq!(held.release(), ReleaseStatus::Pending);
}

#[test]
fn a_destroyed_chain_is_vacant_and_frees_its_frames() {
    let chains = chains();
    let before = chains.zone().stats().in_use;
    let id = filled(&chains, ChainKind::Multi, 5);
    assert_eq!(chains.zone().stats().in_use.0, before.0 + 5);
    chains.try_exclusive(id).expect("idle").destroy();
    assert_eq!(chains.zone().stats().in_use, before);
    assert!(chains.share(id).is_none());
    assert!(chains.try_exclusive(id).is_none());
    assert!(chains.tag(id).is_none());
    assert!(!chains.mark_pending(id));
}

#[test]
fn ids_round_trip_and_any_bits_are_harmless() {
    let chains = chains();
    let (single, chain) =
        (filled(&chains, ChainKind::Single, 1), filled(&chains, ChainKind::Multi, 1));
    assert_eq!((single.kind(), chain.kind()), (ChainKind::Single, ChainKind::Multi));
    assert_eq!(ChainId::from_bits(single.to_bits()), single);
    assert!(chains.share(ChainId::from_bits(u32::MAX)).is_none());
    assert_eq!(chains.tag(single), Some(7));
}

#[test]
fn an_attach_above_the_limit_changes_nothing() {
    let chains = chains();
    chains.zone().set_limit(Some(FrameCount(2)));
    let mut held = chains.create(ChainKind::Multi, 0).expect("room");
    held.attach(0, Reclaim::NotAllowed).expect("below the limit");
    held.attach(1, Reclaim::NotAllowed).expect("below the limit");
    assert!(held.attach(2, Reclaim::NotAllowed).is_err());
    assert!(!held.has_frame(2));
    held.destroy();
    assert_eq!(chains.zone().stats().in_use, FrameCount(0));
}

/// S-34: readers that wait for a holder which is off its core, or in a page fault, sleep.
#[test]
#[cfg_attr(miri, ignore = "counts no CPU time")]
fn s34_a_waiting_reader_sleeps() {
    let chains = chains();
    for ends in [false, true] {
        let id = filled(&chains, ChainKind::Single, 1);
        let held = chains.try_exclusive(id).expect("idle");
        let hold = std::time::Duration::from_millis(400);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let before = sys::host::thread_cpu_time();
                let found = chains.share(id).is_some();
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
