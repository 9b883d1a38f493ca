//! Memory is released while its frames stay in use.

use super::*;
use crate::zones::{take, zone_with};
use crate::{Backing, ChainKind, Exclusive, FRAME_SIZE, FrameChains, FrameCount, OwnerWords};

fn zone(backing: Backing) -> Arc<Zone> {
    zone_with(2048, |config| config.backing = backing)
}

/// Creates an owner without chains.
fn chains(zone: &Arc<Zone>) -> FrameChains {
    let owner = zone.reserve_owner().expect("a number");
    FrameChains::new(owner, 8, OwnerWords::default(), Backing::Heap).expect("small")
}

/// Creates a chain of one frame.
fn one_frame(chains: &FrameChains) -> Exclusive<'_> {
    let mut chain = chains.create(ChainKind::Single, 0).expect("numbers are left");
    chain.attach(0, Reclaim::NotAllowed).expect("frames are left");
    chain
}

fn block(zone: &Arc<Zone>) -> OwnedBlock {
    zone.alloc_owned_block(Order::PAGEBLOCK, MigrateType::Movable, Reclaim::NotAllowed)
        .expect("free blocks")
}

#[test]
fn an_owned_block_is_freed_once_and_keeps_its_zone() {
    let zone = zone(Backing::Heap);
    let block = block(&zone);
    assert_eq!((block.order(), zone.stats().in_use.0), (Order::PAGEBLOCK, 512));
    assert_eq!(Arc::strong_count(&zone), 2);
    drop(block);
    assert_eq!((zone.stats().in_use.0, Arc::strong_count(&zone)), (0, 1));
    zone.check().expect("consistent");
}

#[test]
fn a_frame_in_a_chain_keeps_its_bytes() {
    let zone = zone(Backing::Anonymous);
    let chains = chains(&zone);
    let mut chain = one_frame(&chains);
    chain.pieces_mut(0..FRAME_SIZE).expect("attached").0.fill(7);
    let mut stranger = [zone.get(Pfn(0)).expect("in use")];
    assert_eq!(Frame::discard_all(&mut stranger), Err(DiscardError::Shared { pfn: Pfn(0) }));
    assert!(chain.pieces_mut(0..FRAME_SIZE).expect("attached").0.iter().all(|&byte| byte == 7));
    chain.destroy();
    // Now this is the last reference, and the bytes have no reader.
    assert_eq!(Frame::discard_all(&mut stranger), Ok(()));
}

#[test]
fn discarded_frames_read_as_zeros_when_reused() {
    let zone = zone(Backing::Anonymous);
    let chains = chains(&zone);
    let mut chain = one_frame(&chains);
    chain.pieces_mut(0..FRAME_SIZE).expect("attached").0.fill(7);
    chain.destroy();
    let mut frames: Vec<_> = (0..3).map(|_| take(&zone).expect("free frames")).rev().collect();
    assert!(
        frames.iter().any(|frame| frame.pfn() == Pfn(0)),
        "the frame freed last is allocated first"
    );
    Frame::discard_all(&mut frames).expect("the OS releases it");
    assert!(frames.is_sorted_by_key(Frame::pfn));
    assert_eq!(zone.stats().in_use.0, 3, "the frames stay in use");
    drop(frames);
    let mut chain = one_frame(&chains);
    assert!(chain.pieces_mut(0..FRAME_SIZE).expect("attached").0.iter().all(|&byte| byte == 0));
    chain.destroy();
    zone.check().expect("consistent");
}

#[test]
fn only_committed_memory_is_allocated() {
    let zone = zone(Backing::Heap);
    let movable = MigrateType::Movable;
    assert!(
        zone.alloc_committed_block(movable).is_none()
            && zone.alloc_committed_frame(movable).is_none(),
        "nothing was used yet"
    );
    assert_eq!(zone.stats().committed.0, 0, "and none was committed");
    drop((block(&zone), block(&zone)));
    let whole = zone.alloc_committed_block(movable).expect("two were used");
    let single = zone.alloc_committed_frame(movable).expect("the other one");
    assert!(zone.alloc_committed_block(movable).is_none(), "it is fragmented now");
    let rest: Vec<_> = std::iter::from_fn(|| zone.alloc_committed_frame(movable)).collect();
    assert_eq!((rest.len(), zone.stats().committed.0, zone.stats().in_use.0), (511, 1024, 1024));
    drop((whole, single, rest));
    zone.drain();
    // Of another type, and no more than the limit permits.
    zone.set_limit(Some(FrameCount(511)));
    assert!(zone.alloc_committed_block(movable).is_none());
    let all: Vec<_> =
        std::iter::from_fn(|| zone.alloc_committed_frame(MigrateType::Unmovable)).collect();
    assert_eq!(all.len(), 511);
    drop(all);
    zone.check().expect("consistent");
}

#[test]
fn balloon_records_count_as_metadata_until_dropped() {
    let zone = zone(Backing::Heap);
    let before = zone.stats().descriptor_bytes;
    let (one, two) = (zone.balloon_account(), zone.balloon_account());
    one.set_record_bytes(500);
    two.set_record_bytes(70);
    one.set_record_bytes(300);
    assert_eq!(zone.stats().descriptor_bytes, before + 370);
    drop((one, two));
    assert_eq!(zone.stats().descriptor_bytes, before);
}

#[test]
fn a_failed_discard_changes_nothing() {
    let zone = zone(Backing::Heap);
    let mut block = block(&zone);
    assert!(matches!(block.discard(), Err(DiscardError::Refused(sys::MapError::Decommit { .. }))));
    assert_eq!(zone.stats().in_use.0, 512);
}

#[test]
fn ballooned_frames_are_summed_over_all_accounts() {
    let zone = zone(Backing::Heap);
    let (one, two) = (zone.balloon_account(), zone.balloon_account());
    one.add(FrameCount(5));
    two.add(FrameCount(7));
    one.remove(FrameCount(2));
    assert_eq!(zone.stats().ballooned, FrameCount(10));
    drop(two);
    assert_eq!(zone.stats().ballooned, FrameCount(3));
    let more = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one.remove(FrameCount(4))));
    assert!(more.is_err(), "more frames were removed than are ballooned");
    drop(one);
    assert_eq!(zone.stats().ballooned, FrameCount(0));
}
