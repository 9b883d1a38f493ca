//! Several threads at once: the limit is exact, references are counted, and no frame is lost.

#![cfg(not(loom))]
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "each test uses a part of it")]
#[path = "driver/zones.rs"]
mod zones;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;

use fastrand::Rng;
use frames::{AllocError, FrameCount, MigrateType, Order, Reclaim, Zone};

use zones::{take, zone_with};

fn zone(frames: u64, limit: Option<u64>) -> Arc<Zone> {
    zone_with(frames, |config| {
        config.limit = limit.map(FrameCount);
        config.lists = Some(2);
    })
}

const ROUNDS: u64 = if cfg!(miri) { 60 } else { 40_000 };

/// Two threads allocate and free at the limit. Each subtracts a frame before freeing it and adds it
/// after allocating it, so the sum never exceeds the frames in use.
#[test]
fn the_limit_is_exact_with_two_threads() {
    const LIMIT: u64 = 100;
    let zone = zone(1024, Some(LIMIT));
    let (surely, refused) = (AtomicI64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for seed in 1..=2_u64 {
            let (zone, surely, refused) = (&zone, &surely, &refused);
            scope.spawn(move || {
                let (mut held, mut rng) = (Vec::new(), Rng::with_seed(seed));
                for _ in 0..ROUNDS {
                    if rng.u8(..4) != 0 {
                        match take(zone) {
                            Ok(frame) => {
                                let now = surely.fetch_add(1, SeqCst) + 1;
                                assert!(now <= LIMIT as i64, "{now} frames in use");
                                held.push(frame);
                            }
                            Err(error) => {
                                assert_eq!(error, AllocError::Limit);
                                refused.fetch_add(1, Relaxed);
                            }
                        }
                    } else if let Some(frame) = held.pop() {
                        surely.fetch_sub(1, SeqCst);
                        drop(frame);
                    }
                }
                surely.fetch_sub(held.len() as i64, SeqCst);
            });
        }
    });
    assert!(refused.into_inner() > 0, "the limit must be reached");
    zone.check().expect("consistent");
    assert_eq!(zone.stats().in_use, FrameCount(0));
}

/// Both threads together request exactly the limit, while frames are on both lists: no request may
/// be refused.
#[test]
fn no_request_is_refused_below_the_limit() {
    const EACH: usize = 64;
    let zone = zone(1024, Some(2 * EACH as u64));
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for round in 0..ROUNDS / EACH as u64 {
                    let held: Vec<_> = (0..EACH).map(|_| take(&zone)).collect();
                    assert!(held.iter().all(Result::is_ok), "refused in round {round}");
                    barrier.wait();
                    drop(held);
                    barrier.wait();
                }
            });
        }
    });
    zone.check().expect("consistent");
}

/// one thread puts the last reference while another tries to get one. Either the get fails,
/// or the frame stays in use.
#[test]
fn a_get_against_the_last_put_wins_or_fails() {
    let zone = zone(512, None);
    for _ in 0..ROUNDS / 40 {
        let frame = take(&zone).expect("free frames");
        let pfn = frame.pfn();
        thread::scope(|scope| {
            scope.spawn(|| drop(frame));
            if let Some(second) = zone.get(pfn) {
                assert!(zone.stats().in_use.0 >= 1);
                drop(second);
            }
        });
        assert!(zone.get(pfn).is_none(), "no reference is left");
        assert_eq!(zone.stats().in_use, FrameCount(0));
    }
    zone.check().expect("consistent");
}

/// Threads allocate and free blocks and frames while others trim. A frame with two owners would
/// break its descriptor.
#[test]
fn blocks_frames_and_trims_do_not_disturb_each_other() {
    let zone = zone(4 * 512, None);
    thread::scope(|scope| {
        for seed in 1..=3_u64 {
            let zone = &zone;
            scope.spawn(move || {
                let (mut blocks, mut singles) = (Vec::new(), Vec::new());
                let mut rng = Rng::with_seed(seed);
                for _ in 0..ROUNDS / 20 {
                    match rng.u8(..8) {
                        0 => zone.trim(),
                        1 | 2 => {
                            let order = Order::new(rng.u8(..10)).expect("at most 9");
                            blocks.extend(zone.alloc_block(
                                order,
                                MigrateType::Unmovable,
                                Reclaim::NotAllowed,
                            ));
                        }
                        3 | 4 => singles.extend(take(zone)),
                        5 => singles.truncate(singles.len() / 2),
                        _ => drop(blocks.pop()),
                    }
                }
            });
        }
    });
    zone.trim();
    zone.check().expect("consistent");
    assert_eq!(zone.stats().committed, FrameCount(0));
}
