//! The limit on everything a zone holds: touched frames, its tables, and what owners charge.
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "each test uses a part of it")]
#[path = "driver/zones.rs"]
mod zones;

use std::sync::Arc;

use frames::{AllocError, CompactRequest, FRAME_SIZE, Frame, FrameCount, NoLocksHeld, Order, Zone};
use proptest::prelude::*;

use zones::{take, take_all, take_block, zone_with};

const FRAME: u64 = FRAME_SIZE as u64;

fn zone(limit: u64) -> Arc<Zone> {
    zone_with(4096, |config| {
        config.memory_limit = Some(limit);
        config.keep_blocks = 2;
    })
}

fn is_within(zone: &Zone, limit: u64) {
    let stats = zone.stats();
    assert!(stats.memory_bytes <= limit, "{stats:?}");
    assert_eq!(
        stats.memory_bytes,
        stats.reached.bytes() + stats.descriptor_bytes + stats.charged_bytes
    );
    zone.check().expect("consistent");
}

/// Frames fill the limit up to the reserve. Tables and charges count, too.
#[test]
fn frames_and_charges_share_one_limit() {
    let limit = 8 << 20;
    let zone = zone(limit);
    zone.charge(3 << 20).expect("room");
    let held = take_all(&zone);
    assert_eq!(take(&zone).map(drop), Err(AllocError::Limit));
    is_within(&zone, limit);
    let unused = limit - zone.stats().memory_bytes;
    assert!(unused <= 80 * FRAME, "{unused} bytes are left");
    drop(held);
    zone.uncharge(3 << 20);
    assert!(take_all(&zone).len() as u64 > (7 << 20) / FRAME);
}

/// A charge that does not fit is refused and changes nothing. It fits after free pageblocks were
/// decommitted.
#[test]
fn a_charge_above_the_limit_is_refused() {
    let limit = 8 << 20;
    let zone = zone(limit);
    let held = take_all(&zone);
    let before = zone.stats();
    assert_eq!(zone.charge(1 << 20), Err(AllocError::Limit));
    assert_eq!(zone.stats(), before);
    drop(held);
    assert_eq!(zone.charge(6 << 20), Err(AllocError::Limit), "kept pageblocks still count");
    assert!(zone.release_for_charge(&NoLocksHeld::promise()));
    zone.charge(6 << 20).expect("all pageblocks were decommitted");
    is_within(&zone, limit);
    assert!(!zone.release_for_charge(&NoLocksHeld::promise()));
    assert!(take(&zone).is_ok());
}

/// A frame that was used before is allocated again when a fresh one would exceed the limit.
#[test]
fn free_frames_are_used_again_at_the_limit() {
    let limit = 8 << 20;
    let zone = zone(limit);
    let mut held = take_all(&zone);
    let all = held.len();
    for round in 0..5 {
        let mut kept = Vec::new();
        for (at, frame) in held.into_iter().enumerate() {
            if at % 5 != round {
                kept.push(frame);
            }
        }
        held = kept;
        held.extend(take_all(&zone));
        assert_eq!(held.len(), all, "round {round}");
        is_within(&zone, limit);
    }
}

/// Only an over-limit allowance takes frames of the reserve, and the zone stays below the memory
/// limit.
#[test]
fn over_limit_stays_below_the_memory_limit() {
    let limit = 8 << 20;
    let zone = zone(limit);
    let mut held = take_all(&zone);
    for _ in 0..64 {
        let over_limit = zone.allow_over_limit(FrameCount(1));
        held.push(take(&zone).expect("the reserve"));
        assert_eq!(take(&zone).map(drop), Err(AllocError::Limit));
        assert!(zone.stats().memory_bytes <= limit);
        drop(over_limit);
        held.pop();
    }
    let many: Vec<_> = (0..200).map(|_| zone.allow_over_limit(FrameCount(1))).collect();
    held.extend(take_all(&zone));
    drop(many);
    is_within(&zone, limit);
    drop(held);
}

/// With huge pages the first touch commits a whole pageblock, and all of it counts.
#[test]
fn a_large_limit_counts_whole_pageblocks() {
    let limit = 200 << 20;
    let zone = zone_with(FrameCount::holding(256 << 20).0, |config| {
        config.memory_limit = Some(limit);
    });
    let frame = take(&zone).expect("room");
    assert_eq!(zone.stats().reached, FrameCount(512));
    drop(frame);
    let held = take_all(&zone);
    is_within(&zone, limit);
    assert!(limit - zone.stats().memory_bytes < 3 << 20);
    drop(held);
}

/// A zone above a lowered limit refuses requests until enough memory was freed.
#[test]
fn a_lowered_limit_refuses_until_memory_is_freed() {
    let zone = zone(8 << 20);
    let mut held = take_all(&zone);
    zone.set_memory_limit(Some(4 << 20));
    assert_eq!(take(&zone).map(drop), Err(AllocError::Limit));
    assert_eq!(zone.charge(1), Err(AllocError::Limit));
    held.truncate(100);
    zone.drain();
    assert!(take(&zone).is_ok());
    zone.check().expect("consistent");
}

#[derive(Clone, Debug)]
enum Step {
    Take(u8),
    TakeBlock(u8),
    Free(u8, u8),
    Charge(u32),
    Uncharge,
    Compact,
    Release,
    OverLimit(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u8>().prop_map(Step::Take),
        1 => (0u8..=10).prop_map(Step::TakeBlock),
        3 => (any::<u8>(), 1u8..5).prop_map(|(from, every)| Step::Free(from, every)),
        3 => (1u32..1 << 20).prop_map(Step::Charge),
        1 => Just(Step::Uncharge),
        1 => Just(Step::Compact),
        1 => Just(Step::Release),
        1 => any::<u8>().prop_map(Step::OverLimit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 1 } else { 48 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// After any sequence of requests the zone holds no more than the limit, and the charges add
    /// up.
    #[test]
    fn no_sequence_of_requests_exceeds_the_limit(
        steps in prop::collection::vec(step(), 1..120),
        limit in 1u64..12
    ) {
        let limit = limit << 20;
        let zone = zone(limit);
        let (mut frames, mut blocks, mut charges): (Vec<Frame<'_>>, Vec<_>, Vec<u64>) =
            Default::default();
        for step in steps {
            match step {
                Step::Take(count) => {
                    let taken = (0..u32::from(count) * 4).map_while(|_| take(&zone).ok());
                    frames.extend(taken);
                }
                Step::TakeBlock(order) => {
                    let order = Order::new(order).expect("0 to 10");
                    blocks.extend(take_block(&zone, order));
                }
                Step::Free(from, every) => {
                    let mut at = 0;
                    frames.retain(|_| {
                        at += 1;
                        at < usize::from(from) || at % usize::from(every) != 0
                    });
                    if every == 1 { blocks.clear(); }
                }
                Step::Charge(bytes) => {
                    let charged = zone.charge(bytes.into()).ok();
                    charges.extend(charged.map(|()| u64::from(bytes)));
                }
                Step::Uncharge => charges.pop().into_iter().for_each(|bytes| zone.uncharge(bytes)),
                Step::Compact => _ = zone.compact(CompactRequest::default()),
                Step::Release => _ = zone.release_for_charge(&NoLocksHeld::promise()),
                Step::OverLimit(count) => {
                    let _room = zone.allow_over_limit(FrameCount(count.into()));
                    frames.extend(take(&zone));
                    if frames.len() % 2 == 0 { frames.pop(); }
                }
            }
            let stats = zone.stats();
            prop_assert!(stats.memory_bytes <= limit, "{stats:?}");
            prop_assert_eq!(stats.charged_bytes, charges.iter().sum::<u64>());
            zone.check().expect("consistent");
        }
    }
}
