//! Tests of the zone as its callers see it.

use std::collections::BTreeSet;

use super::*;

fn zone(frames: u64) -> Zone {
    let backing = if cfg!(miri) { Backing::Heap } else { Backing::Anonymous };
    Zone::new(ZoneConfig { capacity: FrameCount(frames), backing, lists: Some(2), ..ZoneConfig::default() })
        .expect("a small zone")
}

fn one(zone: &Zone) -> Result<Frame<'_>, AllocError> {
    zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed)
}

#[test]
fn frames_asked_for_in_a_row_are_ascending_neighbours() {
    let zone = zone(2048);
    let frames: Vec<_> = (0..1200).map(|_| one(&zone).expect("free frames").into_pfn()).collect();
    assert!(frames.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1), "{frames:?}");
    frames.into_iter().for_each(|pfn| drop(zone.frame_from_pfn(pfn)));
    assert_eq!(zone.stats().in_use, FrameCount(0));
}

#[test]
fn every_frame_of_the_arena_can_be_had_once() {
    let zone = zone(1536);
    let mut seen = BTreeSet::new();
    let mut held = Vec::new();
    loop {
        match one(&zone) {
            Ok(frame) => {
                assert!(seen.insert(frame.pfn()), "{} twice", frame.pfn());
                held.push(frame);
            }
            Err(error) => break assert_eq!(error, AllocError::NoFrames),
        }
    }
    assert_eq!(seen.len(), 1536);
    drop(held.pop());
    assert!(one(&zone).is_ok(), "a freed frame can be had again");
}

#[test]
fn the_limit_is_exact_although_lists_hold_frames_back() {
    let zone = zone(4096);
    zone.set_limit(Some(FrameCount(1000)));
    let mut held: Vec<_> = (0..1000).map(|_| one(&zone).expect("below the limit")).collect();
    assert_eq!(one(&zone).expect_err("the limit is reached"), AllocError::Limit);
    for _ in 0..100 {
        drop(held.pop());
        held.push(one(&zone).expect("one below the limit"));
        assert_eq!(one(&zone).expect_err("the limit is reached"), AllocError::Limit);
    }
}

#[test]
fn a_limit_below_what_is_in_use_refuses_until_enough_is_freed() {
    let zone = zone(4096);
    let mut held: Vec<_> = (0..500).map(|_| one(&zone).expect("free frames")).collect();
    zone.set_limit(Some(FrameCount(400)));
    for _ in 0..100 {
        assert_eq!(one(&zone).expect_err("above the limit"), AllocError::Limit);
        drop(held.pop());
    }
    assert_eq!(one(&zone).expect_err("at the limit"), AllocError::Limit);
    drop(held.pop());
    assert!(one(&zone).is_ok());
}
