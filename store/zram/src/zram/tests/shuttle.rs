//! A whole disk with a cache of hot pages under shuttle: real code, real geometry, random
//! schedules of several threads on two pages.

use std::sync::atomic::{AtomicU64 as AtomicCount, Ordering::Relaxed};

use block::{BlockDevice, BlockError, Bytes, Span, ZeroMode, ZeroSpeed};
use fastrand::Rng;
use frames::{FrameCount, MigrateType, NoLocksHeld, Order, Reclaim};
use page::{PAGE_SIZE, Page, Streams};
use sync::{Arc, thread};
use sys::Backing;
use zcomp::Algorithm;
use zsmalloc::Budget;

use crate::counters::Counter;
use crate::{Zram, ZramConfig};

/// The page that is written only in parts, each by one thread.
const PARTS: u64 = 0;
/// The page that gets requests of every kind.
const BUSY: u64 = 1;

/// The bytes of a page that each writer owns. The rest does not change.
const PART: usize = 1024;
const ROUNDS: u8 = 5;

/// Creates a disk with a cache of `hot` pages and a limit of `frames` frames.
fn disk(hot: u64, frames: u64) -> Arc<Zram> {
    let config = ZramConfig {
        algorithm: Algorithm::Lz4 { acceleration: 1 },
        arena: Some(Bytes(4 << 20)),
        hot_cache: Some(Bytes(hot * PAGE_SIZE as u64)),
        backing: Backing::AnonymousSmall,
        ..ZramConfig::new(Bytes(2 * PAGE_SIZE as u64))
    };
    let streams = Streams::of(config.algorithm, 2).expect("a known codec");
    let disk = Arc::new(Zram::with_streams(config, streams).expect("a small disk"));
    fill_high(&disk);
    disk.zone().set_limit(Some(FrameCount(frames)));
    disk
}

/// Fills both pages with frames of the second pageblock and leaves the first one free, so that
/// frame compaction has frames to move.
fn fill_high(disk: &Zram) {
    let low = disk.zone().alloc_block(Order::PAGEBLOCK, MigrateType::Movable, Reclaim::NotAllowed);
    let mut parts = noise(9);
    // The writers' parts start as zeros.
    parts[..2 * PART].fill(0);
    assert!(done(disk.write(whole(PARTS), &parts)) && done(disk.write(whole(BUSY), &noise(1))));
    drop(low.expect("an empty zone"));
}

fn span(page: u64, inside: std::ops::Range<usize>) -> Span {
    let at = page * PAGE_SIZE as u64 + inside.start as u64;
    Span::new(at, inside.len() as u64, Bytes(2 * PAGE_SIZE as u64)).expect("inside")
}

fn whole(page: u64) -> Span {
    span(page, 0..PAGE_SIZE)
}

/// Returns whether a write was done; at the limit it may be refused.
fn done(result: Result<(), BlockError>) -> bool {
    assert!(matches!(result, Ok(()) | Err(BlockError::NoSpace { .. })), "{result:?}");
    result.is_ok()
}

/// The operations of one thread on the disk.
type ThreadFn = fn(&Zram);

/// Writes its part of the first page, reads it back, and calls `between`. No other thread writes
/// that part, so it always reads what was written last.
fn writer(disk: &Zram, number: usize, between: impl Fn(u8)) {
    let inside = number * PART..(number + 1) * PART;
    let mut mine = 0;
    for round in 1..=ROUNDS {
        if done(disk.write(span(PARTS, inside.clone()), &[round; PART])) {
            mine = round;
        }
        let mut part = [0xee; PART];
        disk.read(span(PARTS, inside.clone()), &mut part).expect("nothing is damaged");
        assert!(part == [mine; PART], "a write was lost, or one that was refused was done");
        between(round);
    }
}

/// Does the same as [`writer`], and also writes a part of the second page.
fn writer_of_both(disk: &Zram, number: usize) {
    let part = span(BUSY, number * PART..(number + 1) * PART);
    writer(disk, number, |round| _ = done(disk.write(part, &[round; PART])));
}

/// Writes, zeroes and discards the whole second page.
fn other(disk: &Zram) {
    for round in 1..=ROUNDS {
        match round % 4 {
            0 => disk.discard(whole(BUSY)).expect("nothing stands against it"),
            1 => _ = done(disk.write(whole(BUSY), &noise(round))),
            2 => _ = done(disk.write_zeroes(whole(BUSY), ZeroMode::KeepAllocated, ZeroSpeed::Any)),
            _ => _ = done(disk.write(whole(BUSY), &[round; PAGE_SIZE])),
        }
    }
}

/// Returns a page that does not compress; the last bytes are its seed.
fn noise(seed: u8) -> Page {
    let mut page = [seed; PAGE_SIZE];
    Rng::with_seed(seed.into()).fill(&mut page[..PAGE_SIZE - PART]);
    page
}

/// Checks that no part is torn: each comes from one write of the part or of the whole page.
fn reader(disk: &Zram) {
    for round in 0..u64::from(ROUNDS) {
        let page = if round % 2 == 0 { BUSY } else { PARTS };
        let mut bytes = [0xee; PAGE_SIZE];
        disk.read(whole(page), &mut bytes).expect("nothing is damaged");
        // The last part tells which whole page the other parts come from, unless they were
        // written since.
        let last = bytes[PAGE_SIZE - 1];
        let below = noise(last);
        for (part, before) in bytes.chunks(PART).zip(below.chunks(PART)) {
            let is_one = part.iter().all(|&byte| byte == part[0]);
            assert!(is_one || part == before, "a part is torn");
        }
    }
}

/// Evicts pages, compacts objects and compacts frames.
fn mover(disk: &Zram) {
    for _ in 0..2 {
        disk.zone().shrink(FrameCount(1), &NoLocksHeld::promise());
        disk.compact(&Budget::unlimited());
        disk.compact_frames(&Budget::unlimited());
    }
}

/// Evicts pages until two writers have finished.
fn evictor(disk: &Zram) {
    while disk.0.counters.get(Counter::Writes) < 2 * u64::from(ROUNDS) {
        disk.zone().shrink(FrameCount(1), &NoLocksHeld::promise());
        thread::yield_now();
    }
}

/// Runs each of `work` on a thread of its own, with `times` schedules. Returns the frames
/// migrated in all schedules.
fn run(hot: u64, frames: u64, work: &'static [ThreadFn], times: usize) -> u64 {
    // Counted across schedules, so the type is not the scheduler's.
    let moved = std::sync::Arc::new(AtomicCount::new(0));
    let all_moved = std::sync::Arc::clone(&moved);
    sync::check_random(
        move || {
            let disk = disk(hot, frames);
            let begin = |work: &'static ThreadFn| {
                let disk = Arc::clone(&disk);
                thread::spawn(move || work(&disk))
            };
            let threads: Vec<_> = work.iter().map(begin).collect();
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
            disk.check().expect("sound");
            // Relaxed: a sum over schedules that run in sequence.
            all_moved.fetch_add(disk.zone().vmstat().pgmigrate_success, Relaxed);
            disk.discard(Span::new(0, disk.size().0, disk.size()).expect("all of it"))
                .expect("nothing is in the way");
            assert_eq!((disk.stat().hot.hot_pages, disk.zone().stats().in_use), (0, FrameCount(0)));
            disk.check().expect("sound");
        },
        times,
    );
    let moved = moved.load(Relaxed);
    println!("{moved} frames moved");
    moved
}

const ALL_THREADS: [ThreadFn; 5] =
    [|disk| writer_of_both(disk, 0), |disk| writer_of_both(disk, 1), other, reader, mover];

/// Z2, Z6, Z9, R-020, R-506: a cache of one page, from which the two pages evict each other all
/// the time.
#[test]
fn z6_two_pages_evict_each_other() {
    let moved = run(1, 16, &ALL_THREADS, 200);
    assert!(moved > 5, "{moved} frames were moved, too few to show anything");
}

/// a limit that is too low for everything: writes are refused or wait for reclaim, and a
/// refused write changes nothing.
#[test]
fn r508_writes_at_a_limit_that_is_too_low() {
    let moved = run(2, 2, &ALL_THREADS, 200);
    assert!(moved > 5, "{moved} frames were moved, too few to show anything");
}

/// Z6: a page is changed in place while it is being evicted.
#[test]
fn z6_a_page_is_written_while_it_is_evicted() {
    run(2, 16, &[|disk| writer(disk, 0, |_| {}), |disk| writer(disk, 1, |_| {}), evictor], 1000);
}
