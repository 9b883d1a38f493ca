//! The memory limit bounds everything a device holds, and the client is notified before the
//! device reaches it.
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use balloon::{Balloon, BalloonConfig, BalloonUnit, OsHost};
use block::{BlockDevice, BlockError, Bytes, Span, ZeroMode, ZeroSpeed};
use frames::{FrameCount, NoLocksHeld, Shrinker, ShrinkerPriority};
use zcomp::Algorithm;
use zram::{Budget, NearlyFull, Zram, ZramConfig, ZramError};

use support::{config, disk_of_frames, page, page_span, read, write};

const MIB: u64 = 1 << 20;

fn disk(size: u64, limit: u64) -> Zram {
    support::disk(ZramConfig { mem_limit: Some(Bytes(limit)), ..config(size) })
}

/// Checks that the device is sound and holds no more than the limit.
fn is_within(disk: &Zram, limit: u64) {
    let stat = disk.stat();
    let ballooned = disk.zone().stats().ballooned.bytes();
    let held = stat.memory.mem_total;
    assert!(held + ballooned <= limit, "{:?} and {ballooned} bytes ballooned", stat.memory);
    assert_eq!(stat.mm.mem_limit, limit);
    assert!(stat.mm.mem_used_total < limit);
    disk.check().expect("sound");
}

/// slots, handles, records and descriptors count against the limit, too. They fill a disk
/// with little data per page.
#[test]
fn r508_tables_count_against_the_limit() {
    let limit = 4 * MIB;
    let disk = disk(4 << 30, limit);
    let mut stored = Vec::new();
    // One page in each chunk of the slot table.
    for number in (0..1 << 20).step_by(512) {
        match write(&disk, number, &page(number, 40)) {
            Ok(()) => stored.push(number),
            Err(error) => {
                assert_eq!(error, BlockError::NoSpace { offset: number * 4096 });
                break;
            }
        }
    }
    let stat = disk.stat();
    assert!(stat.memory.slots > 2 * MIB, "{:?}", stat.memory);
    assert!((500..1024).contains(&stored.len()), "{}", stored.len());
    is_within(&disk, limit);
    assert!(stored.iter().all(|&number| read(&disk, number) == page(number, 40)));
    // Discards need no memory, and what they free can be used elsewhere.
    stored
        .iter()
        .for_each(|&number| disk.discard(page_span(&disk, number)).expect("no memory is needed"));
    assert!(disk.stat().memory.slots < MIB / 8);
    write(&disk, 1 << 19, &page(1, 4096)).expect("enough memory after the discards");
    is_within(&disk, limit);
}

/// Allocated zeros over a huge disk take slots, and slots take memory: never more than the limit.
/// Holes take none.
#[test]
fn zeroes_over_a_huge_disk_stay_below_the_limit() {
    let limit = MIB;
    let disk = disk(2 << 40, limit);
    let before = disk.stat().memory.mem_total;
    for request in 0..32 {
        let all = Span::new(request << 32, 4 << 30, disk.size()).expect("inside");
        let refused = disk.write_zeroes(all, ZeroMode::KeepAllocated, ZeroSpeed::Any);
        assert!(matches!(refused, Err(BlockError::NoSpace { .. })), "{refused:?}");
        // No `check` here: it visits a billion handle indices.
        assert!(disk.stat().memory.mem_total <= limit, "{:?}", disk.stat().memory);
        disk.write_zeroes(all, ZeroMode::MayUnmap, ZeroSpeed::Any).expect("no memory is needed");
    }
    let all = Span::new(0, 2 << 40, disk.size()).expect("inside");
    disk.write_zeroes(all, ZeroMode::MayUnmap, ZeroSpeed::Any).expect("no memory is needed");
    disk.discard(all).expect("no memory is needed");
    let after = disk.stat().memory.mem_total;
    assert!(after <= before + limit / 4, "{before} before, {after} after");
}

/// A full disk with compressed pages: frames and tables together reach the limit and never exceed
/// it.
#[test]
fn a_full_disk_never_exceeds_its_limit() {
    let limit = 16 * MIB;
    let disk = disk(256 * MIB, limit);
    let mut stored = 0;
    while write(&disk, stored, &page(stored, 1000)).is_ok() {
        stored += 1;
    }
    is_within(&disk, limit);
    let held = disk.stat().memory.mem_total;
    assert!(held > limit * 9 / 10, "{held} of {limit} are used");
    assert!((0..stored).all(|number| read(&disk, number) == page(number, 1000)));
    // Discard a quarter, compact, fill the device with pages of other sizes, and remove those.
    for round in 1..4 {
        (0..stored)
            .filter(|number| number % 4 == round)
            .for_each(|number| disk.discard(page_span(&disk, number)).expect("fine"));
        disk.compact(&Budget::unlimited());
        disk.compact_frames(&Budget::unlimited());
        is_within(&disk, limit);
        let (mut more, noisy) = (0, 500 * round as usize);
        while write(&disk, 30_000 + more, &page(more, noisy)).is_ok() {
            more += 1;
        }
        is_within(&disk, limit);
        assert!(more > 100, "round {round}: {more}");
        assert!((0..more).all(|number| read(&disk, 30_000 + number) == page(number, noisy)));
        (0..more).for_each(|number| disk.discard(page_span(&disk, 30_000 + number)).expect("fine"));
    }
    assert!(
        (0..stored)
            .filter(|number| number % 4 == 0)
            .all(|number| read(&disk, number) == page(number, 1000))
    );
}

/// Ballooned frames count: the store and the balloon share one limit.
#[test]
fn the_balloon_counts_against_the_limit() {
    let limit = 32 * MIB;
    let disk = disk(64 * MIB, limit);
    let config = BalloonConfig { unit: BalloonUnit::BlocksFirst, ..BalloonConfig::default() };
    let balloon =
        Balloon::new(Arc::clone(disk.zone()), Arc::new(OsHost), config).expect("a number is left");
    let _change = balloon.set_target(FrameCount::holding(24 * MIB));
    assert!(disk.zone().stats().ballooned > FrameCount::holding(20 * MIB));
    is_within(&disk, limit);
    let refused = (0..8192).find(|&number| write(&disk, number, &page(number, 4096)).is_err());
    assert!(refused.is_some(), "the balloon holds most of the limit");
    is_within(&disk, limit);
}

/// Codec contexts are charged once, however many threads write. A limit that they exceed is
/// refused; under a small limit there are fewer.
#[test]
fn streams_count_against_the_limit() {
    for algorithm in [Algorithm::Lz4hc { level: 9 }, Algorithm::Zstd { level: 3 }] {
        let config = |limit| ZramConfig {
            algorithm,
            mem_limit: Some(Bytes(limit)),
            ..ZramConfig::new(Bytes(64 * MIB))
        };
        assert!(
            matches!(Zram::new(config(100 << 10)), Err(ZramError::Limit { .. })),
            "{algorithm}"
        );
        let disk = Zram::new(config(8 * MIB)).expect("enough memory for a stream");
        let streams = disk.stat().memory.streams;
        assert!((100 << 10..=2 * MIB).contains(&streams), "{algorithm}: {streams}");
        is_within(&disk, 8 * MIB);
    }
}

/// The client is notified before a write fails: once, and again only after the device was far
/// from its limit.
#[test]
fn nearly_full_is_reported_before_a_write_fails() {
    static NOTIFIED: AtomicU64 = AtomicU64::new(0);
    let disk = disk(64 * MIB, 8 * MIB);
    disk.on_nearly_full(|NearlyFull { needed, limit }| {
        assert!(needed * 100 >= limit * 95 && needed <= limit);
        NOTIFIED.fetch_add(1, Relaxed);
    });
    for round in 1..=3 {
        let mut stored = 0;
        // Fill up to the notification, then to the limit, then empty the device.
        while disk.stat().limit.nearly_full_total < round {
            write(&disk, stored, &page(stored, 4096)).expect("no failure before the notification");
            stored += 1;
        }
        assert!(disk.stat().limit.nearly_full && stored > 1000);
        while write(&disk, stored, &page(stored, 4096)).is_ok() {
            stored += 1;
        }
        assert_eq!((NOTIFIED.load(Relaxed), disk.stat().limit.nearly_full_total), (round, round));
        (0..stored / 2).for_each(|number| disk.discard(page_span(&disk, number)).expect("fine"));
        assert!(!disk.stat().limit.nearly_full);
        disk.discard(Span::new(0, 64 * MIB, disk.size()).expect("inside")).expect("fine");
    }
}

/// Frames reserved for zeros count as needed: the client is notified before zeros are refused.
#[test]
fn nearly_full_is_reported_before_zeros_are_refused() {
    static NOTIFIED: AtomicU64 = AtomicU64::new(0);
    let disk = disk(256 * MIB, 128 * MIB);
    disk.on_nearly_full(|_| _ = NOTIFIED.fetch_add(1, Relaxed));
    let whole = Span::new(0, 256 * MIB, disk.size()).expect("inside");
    // Without `stat`, which would check the limit itself. The zeros have no tables yet, but the
    // memory reserved for those counts as needed.
    for at in (0..192 * MIB).step_by(MIB as usize).take_while(|_| NOTIFIED.load(Relaxed) == 0) {
        let next = Span::new(at, MIB, disk.size()).expect("inside");
        disk.write_zeroes(next, ZeroMode::KeepAllocated, ZeroSpeed::Any)
            .expect("no failure before the notification");
    }
    assert_eq!(NOTIFIED.load(Relaxed), 1);
    assert!(disk.stat().limit.nearly_full);
    disk.discard(whole).expect("fine");
    let limit = disk.stat().limit;
    assert_eq!((limit.nearly_full, limit.nearly_full_total), (false, 1));
}

/// A shrinker that frees one frame per call.
#[derive(Debug)]
struct OneFrameShrinker {
    kept: std::sync::Mutex<Vec<frames::OwnedBlock>>,
}

impl Shrinker for OneFrameShrinker {
    fn count(&self) -> FrameCount {
        FrameCount(self.kept.lock().expect("no panic").len() as u64)
    }

    fn scan(&self, _: FrameCount, _: &NoLocksHeld) -> FrameCount {
        FrameCount(self.kept.lock().expect("no panic").pop().map_or(0, |_| 1))
    }
}

/// each write that finds no frame at first counts once, and its data is right.
#[test]
fn r501_each_write_that_reclaims_counts_once() {
    const STALLS: u64 = 20;
    let disk = disk_of_frames(16 * MIB, 100 + STALLS);
    let zone = Arc::clone(disk.zone());
    let block = || {
        zone.alloc_owned_block(
            frames::Order::SINGLE,
            frames::MigrateType::Unmovable,
            frames::Reclaim::NotAllowed,
        )
    };
    let kept = (0..STALLS).map(|_| block().expect("enough memory")).collect();
    let shrinker = Arc::new(OneFrameShrinker { kept: std::sync::Mutex::new(kept) });
    let weak = Arc::downgrade(&shrinker) as std::sync::Weak<dyn Shrinker>;
    let _registered = zone.register_shrinker(ShrinkerPriority::Cache, weak);
    for number in 0..100 + STALLS {
        write(&disk, number, &page(number, 4096)).expect("a frame is free or is reclaimed");
    }
    assert_eq!(disk.stat().limit.writestall, STALLS);
    assert!((0..100 + STALLS).all(|number| read(&disk, number) == page(number, 4096)));
    assert!(write(&disk, 500, &page(500, 4096)).is_err(), "nothing is left to reclaim");
    assert_eq!(disk.stat().limit.writestall, STALLS + 1);
    disk.check().expect("sound");
}
