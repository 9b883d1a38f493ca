//! Threads that move and resize everything while the workers run.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use balloon::{Balloon, BalloonConfig, BalloonUnit, OsHost};
use fastrand::Rng;
use frames::{
    CompactRequest, ContigError, ContigRequest, FrameCount, Isolated, MigrateMode, MigrateType,
    NoLocksHeld, Order, Pfn, Reclaim,
};
use zsmalloc::Budget;

use crate::counters::add;
use crate::soak::Soak;

/// All maintenance tasks; each runs in its own thread.
pub(crate) const THREADS: [fn(&Soak); 6] =
    [compact_objects, compact_frames, isolate, alloc_ranges, resize_balloons, recreate];

fn pause(rng: &mut Rng) {
    thread::sleep(Duration::from_micros(rng.u64(..3000)));
}

fn budget(rng: &mut Rng) -> Budget {
    match rng.u32(..4) {
        0 => Budget::unlimited(),
        _ => Budget::within(Duration::from_micros(rng.u64(..5000))),
    }
}

/// Compacts the objects of random pools.
fn compact_objects(soak: &Soak) {
    let mut rng = Rng::with_seed(soak.seed ^ 0x0b1ec7);
    while !soak.is_over() {
        let slot = &soak.slots[rng.usize(..soak.slots.len())];
        let done = slot.live.read().expect("no thread panicked").pool.compact(&budget(&mut rng));
        add(&soak.counters.objects_moved, done.objects_moved);
        add(&soak.counters.bytes_moved, done.bytes_moved);
        pause(&mut rng);
    }
}

/// Compacts the zone's frames, trims it and changes its limit.
fn compact_frames(soak: &Soak) {
    let mut rng = Rng::with_seed(soak.seed ^ 0xf4a3e5);
    let limit = soak.zone.stats().limit;
    while !soak.is_over() {
        let request = CompactRequest { budget: budget(&mut rng), ..CompactRequest::default() };
        let done = soak.zone.compact(request);
        add(&soak.counters.frames_moved, done.frames_moved);
        match rng.u32(..8) {
            0 => soak.zone.trim(),
            1 => soak.zone.set_limit(limit.map(|limit| FrameCount(limit.0 * 3 / 4))),
            _ => soak.zone.set_limit(limit),
        }
        pause(&mut rng);
    }
    soak.zone.set_limit(limit);
}

/// Isolates random frames for a while, then migrates them while there are targets and puts the
/// rest
/// back.
fn isolate(soak: &Soak) {
    let mut rng = Rng::with_seed(soak.seed ^ 0x150_1a7e);
    let frames = soak.zone.capacity().0 as u32;
    while !soak.is_over() {
        let mut batch: Vec<Isolated<'_>> =
            (0..200).filter_map(|_| soak.zone.isolate(Pfn(rng.u32(..frames)))).collect();
        pause(&mut rng);
        let mut left = rng.u32(..100);
        // At most `left` targets, so that some frames are put back.
        let mut targets = |_| {
            left = left.checked_sub(1)?;
            soak.zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok()
        };
        let done = soak.zone.migrate_pages(&mut batch, &mut targets, MigrateMode::SyncLight);
        add(&soak.counters.frames_moved, done.migrated);
        add(&soak.counters.frames_gone, done.gone);
    }
}

/// Allocates contiguous frames: by range, by length, and as blocks.
fn alloc_ranges(soak: &Soak) {
    let mut rng = Rng::with_seed(soak.seed ^ 0xc1a1);
    let frames = soak.zone.stats().limit.map_or(0, |limit| limit.0 as u32);
    let request =
        |rng: &mut Rng| ContigRequest { budget: budget(rng), mode: MigrateMode::SyncLight };
    while !soak.is_over() {
        let held = match rng.u32(..3) {
            // A given range.
            0 => {
                let first = rng.u32(..frames);
                soak.zone.alloc_contig_range(
                    Pfn(first)..Pfn(first + rng.u32(1..=700)),
                    request(&mut rng),
                )
            }
            // Any range of a given length.
            1 => soak.zone.alloc_contig_frames(FrameCount(rng.u64(1..=700)), request(&mut rng)),
            _ => {
                // A block, whose allocation may run the shrinkers.
                let order = [2, 3, 9].map(Order::new)[rng.usize(..3)].unwrap_or(Order::SINGLE);
                let allowed = Reclaim::Allowed(NoLocksHeld::promise());
                let _shrinking = soak.shrinking.read().expect("no thread panicked");
                let block = soak.zone.alloc_block(order, MigrateType::Unmovable, allowed);
                add(&soak.counters.blocks, u64::from(block.is_ok()));
                pause(&mut rng);
                continue;
            }
        };
        match held {
            Ok(_) => add(&soak.counters.ranges, 1),
            Err(ContigError::Range { .. }) => panic!("the range lies in the zone"),
            Err(_) => {}
        }
        pause(&mut rng);
    }
}

/// Resizes a balloon of blocks and a balloon of frames to random targets.
fn resize_balloons(soak: &Soak) {
    let mut rng = Rng::with_seed(soak.seed ^ 0xba11);
    let balloon = |unit| {
        let config = BalloonConfig { unit, ..BalloonConfig::default() };
        Balloon::new(Arc::clone(&soak.zone), Arc::new(OsHost), config)
            .expect("the zone has room for another owner")
    };
    let balloons = [balloon(BalloonUnit::BlocksFirst), balloon(BalloonUnit::Frames)];
    while !soak.is_over() {
        let target = FrameCount(rng.u64(..4000));
        let shrinking = soak.shrinking.read().expect("no thread panicked");
        let change = balloons[rng.usize(..2)].set_target(target);
        drop(shrinking);
        add(&soak.counters.ballooned, change.actual.0);
        pause(&mut rng);
    }
    // Deflate completely before the check.
    for balloon in &balloons {
        // An isolated frame returns when migration puts it back.
        while balloon.deflate().actual > FrameCount(0) {
            thread::yield_now();
        }
        balloon.check().expect("the balloon is consistent");
    }
}

/// Destroys a random pool with its objects every two seconds, and creates another.
fn recreate(soak: &Soak) {
    let mut rng = Rng::with_seed(soak.seed ^ 0xdead);
    while !soak.is_over() {
        for _ in 0..20 {
            if soak.is_over() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        let verified =
            soak.slots[rng.usize(..soak.slots.len())].recreate(&soak.zone, &soak.shrinking);
        add(&soak.counters.verified_at_the_end_of_pools, verified);
        add(&soak.counters.recreated, 1);
    }
}
