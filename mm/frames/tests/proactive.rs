//! Proactive compaction of a zone: short slices, large zones, and memory that was used once.

#![cfg(not(any(loom, miri)))]
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "each test uses a part of it")]
mod driver;

use std::sync::Arc;
use std::time::Duration;

use frames::{
    Budget, CompactRequest, ContigRequest, FrameCount, MigrateType, Order, PAGEBLOCK_FRAMES, Pfn,
    ProactiveCompactor, ProactiveOutcome, Proactiveness, Reclaim, Zone, ZoneConfig,
};

use driver::{Driver, zone_of_blocks};

const BLOCK: u64 = PAGEBLOCK_FRAMES as u64;

/// Far too short for a pass over a large zone.
const SLICE: Duration = Duration::from_micros(100);

fn zone(blocks: u64) -> Arc<Zone> {
    let config = ZoneConfig {
        capacity: FrameCount(blocks * BLOCK),
        lists: Some(1),
        ..ZoneConfig::default()
    };
    Arc::new(Zone::new(config).expect("address space"))
}

/// Fills `blocks` pageblocks and frees three of four frames in each; returns the tags that are
/// left.
fn scatter(driver: &Driver, blocks: u64) -> Vec<u32> {
    let tags: Vec<u32> = (0..blocks * BLOCK).map(|_| driver.take().expect("room")).collect();
    tags.iter().filter(|&tag| tag % 4 != 0).for_each(|&tag| driver.release(tag));
    driver.zone().drain();
    tags.into_iter().filter(|tag| tag % 4 == 0).collect()
}

fn eager() -> ProactiveCompactor {
    ProactiveCompactor::new(Proactiveness::new(90).expect("a percentage"))
}

/// Steps until there is nothing to do. Returns the frames moved and the frames scanned.
fn run(proactive: &mut ProactiveCompactor, zone: &Zone) -> (u64, u64) {
    let (mut moved, mut scanned) = (0, 0);
    for _ in 0..50_000 {
        // As the background thread does; released pageblocks do not count as free memory.
        zone.release_excess(Budget::unlimited());
        match proactive.step(zone, Budget::within(SLICE)) {
            ProactiveOutcome::Compacted(report) => {
                moved += report.frames_moved;
                scanned += report.scanned;
            }
            ProactiveOutcome::Idle => return (moved, scanned),
            ProactiveOutcome::BackingOff => {}
        }
    }
    panic!(
        "no end after {moved} frames moved and {scanned} scanned: score {}",
        zone.fragmentation()
    )
}

/// a slice that is too short for a whole pass continues where the last one stopped.
#[test]
fn r100_slices_get_past_a_large_balloon() {
    const BALLOON: u64 = 8192;
    let zone = zone(BALLOON + 64);
    let driver = Driver::new(&zone);
    let tags: Vec<u32> = (0..20 * BLOCK).map(|_| driver.take().expect("room")).collect();
    // A balloon above the memory in use: whole pageblocks that cannot be moved.
    let balloon: Vec<_> = (0..BALLOON)
        .map(|_| {
            zone.alloc_owned_block(Order::PAGEBLOCK, MigrateType::Unmovable, Reclaim::NotAllowed)
        })
        .collect::<Result<_, _>>()
        .expect("room");
    let account = zone.balloon_account();
    account.add(FrameCount(BALLOON * BLOCK));
    tags.iter().filter(|&tag| tag % 4 != 0).for_each(|&tag| driver.release(tag));
    zone.drain();
    assert_eq!(zone.fragmentation(), 100);
    let (moved, scanned) = run(&mut eager(), &zone);
    assert!(moved >= 10 * 128, "{moved} frames moved");
    // A slice that started at the top again would scan the balloon again.
    assert!(scanned < 2 * (BALLOON + 20 * BLOCK), "{scanned} scanned");
    assert_eq!(zone.fragmentation(), 0);
    driver.check();
    drop((account, balloon));
}

/// a zone whose highest pageblock was used once is no harder to compact than a small one.
#[test]
fn r110_slices_get_past_unused_memory() {
    let high = 1 << 18;
    let zone = zone(high);
    let top = u32::try_from(high * BLOCK).expect("a number");
    let range = Pfn(top - PAGEBLOCK_FRAMES)..Pfn(top);
    drop(zone.alloc_contig_range(range, ContigRequest::default()).expect("an empty zone"));
    zone.trim();
    let driver = Driver::new(&zone);
    scatter(&driver, 20);
    assert_eq!(zone.fragmentation(), 100);
    let (moved, _) = run(&mut eager(), &zone);
    assert!(moved >= 10 * 128, "{moved} frames moved");
    assert_eq!(zone.fragmentation(), 0);
    driver.check();
}

/// The score is about committed memory. Released pageblocks do not count as free.
#[test]
fn r110_the_score_ignores_an_earlier_peak() {
    for peak in [0, 1000] {
        let zone = zone(1100);
        let block =
            || zone.alloc_block(Order::PAGEBLOCK, MigrateType::Movable, Reclaim::NotAllowed);
        let blocks: Vec<_> = (0..peak).map(|_| block().expect("room")).collect();
        drop(blocks);
        zone.trim();
        let driver = Driver::new(&zone);
        scatter(&driver, 40);
        assert_eq!(zone.fragmentation(), 100, "after a peak of {peak} pageblocks");
        let (moved, _) = run(&mut eager(), &zone);
        zone.release_excess(Budget::unlimited());
        let stats = zone.stats();
        assert!(moved >= 20 * 128, "{moved} frames moved");
        assert!(stats.committed.0 <= stats.in_use.0 + zone.kept().0 + 2 * BLOCK, "{stats:?}");
        driver.check();
    }
}

/// S-47, R-108: compacted frames stay where they are in every later pass.
#[test]
fn s47_a_second_pass_moves_nothing() {
    let zone = zone(64);
    let driver = Driver::new(&zone);
    let tags = scatter(&driver, 40);
    let mut proactive = eager();
    assert!(run(&mut proactive, &zone).0 > 0);
    zone.compact(CompactRequest::default());
    let places: Vec<_> = tags.iter().map(|&tag| driver.place(tag)).collect();
    let before = zone.vmstat();
    for _ in 0..100 {
        assert_eq!(proactive.step(&zone, Budget::unlimited()), ProactiveOutcome::Idle);
    }
    assert_eq!(zone.compact(CompactRequest::default()).frames_moved, 0);
    assert_eq!(zone.vmstat().pgmigrate_success, before.pgmigrate_success);
    assert!(tags.iter().zip(places).all(|(&tag, place)| driver.place(tag) == place));
    assert_eq!(zone.stats().in_use, FrameCount(tags.len() as u64));
    driver.check();
}

/// Less than a 64th of the memory in use is not worth the copies.
#[test]
fn little_fragmented_memory_scores_zero() {
    let zone = zone(300);
    let driver = Driver::new(&zone);
    let tags: Vec<u32> = (0..256 * BLOCK).map(|_| driver.take().expect("room")).collect();
    let mut left = tags.chunks(80).map(|chunk| chunk[0]);
    left.by_ref().take(1200).for_each(|tag| driver.release(tag));
    zone.drain();
    assert_eq!(zone.fragmentation(), 0, "less than four pageblocks of 256");
    left.take(400).for_each(|tag| driver.release(tag));
    tags.chunks(80).for_each(|chunk| driver.release(chunk[1]));
    zone.drain();
    assert_eq!(zone.fragmentation(), 100);
    driver.check();
}

/// It works in slices down to the low mark, then idles. When nothing can be moved it tries less
/// and less often, but keeps trying.
#[test]
fn proactive_compaction_reaches_its_mark_or_backs_off() {
    let zone = zone_of_blocks(16, |_| {});
    let driver = Driver::new(&zone);
    let pages = driver.fill();
    pages.iter().step_by(2).for_each(|&tag| driver.release(tag));
    zone.drain();
    assert_eq!(zone.fragmentation(), 100);
    // Long enough that a thread which is preempted still gets something done.
    let slice = Budget::within(Duration::from_millis(50));
    let mut kernel = ProactiveCompactor::new(Proactiveness::KERNEL);
    let steps =
        (0..10_000).take_while(|_| kernel.step(&zone, slice) != ProactiveOutcome::Idle).count();
    assert!((1..10_000).contains(&steps));
    let score = zone.fragmentation();
    assert!((60..=80).contains(&score), "it ends at its low mark: {score}");
    assert!(zone.vmstat().compact_daemon_wake > 0);
    let mut eager = ProactiveCompactor::new(Proactiveness::new(100).expect("a percentage"));
    assert!((0..10_000).any(|_| eager.step(&zone, slice) == ProactiveOutcome::Idle));
    assert_eq!(zone.fragmentation(), 0);
    let mut never = ProactiveCompactor::new(Proactiveness::new(0).expect("a percentage"));
    assert_eq!(never.step(&zone, slice), ProactiveOutcome::Idle);
    driver.check();

    let kept: Vec<u32> = driver.fill();
    pages.iter().skip(1).step_by(2).chain(&kept).for_each(|&tag| {
        driver.pin(tag);
    });
    kept.iter().step_by(2).for_each(|&tag| driver.release(tag));
    zone.drain();
    let mut skipped = Vec::new();
    let mut in_a_row = 0;
    while skipped.len() < 9 {
        match eager.step(&zone, slice) {
            ProactiveOutcome::BackingOff => in_a_row += 1,
            ProactiveOutcome::Compacted(done) => {
                assert_eq!(done.frames_moved, 0);
                skipped.push(std::mem::take(&mut in_a_row));
            }
            ProactiveOutcome::Idle => panic!("memory is fragmented"),
        }
    }
    assert_eq!(skipped, [0, 1, 2, 4, 8, 16, 32, 64, 64]);
    driver.unpin_all();
    assert!((0..200).any(
        |_| matches!(eager.step(&zone, slice), ProactiveOutcome::Compacted(done) if done.frames_moved > 0)
    ));
    assert!((0..10_000).any(|_| eager.step(&zone, slice) == ProactiveOutcome::Idle));
    assert_eq!(zone.fragmentation(), 0);
}
