//! A balloon in a device's arena: both account correctly, and the store reclaims ballooned frames
//! when it needs them.

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use balloon::{Balloon, BalloonConfig, BalloonUnit, OsHost, StopReason};
use block::BlockDevice;
use fastrand::Rng;
use frames::FrameCount;
use zram::{Budget, Zram};

use support::{disk_of_frames, page, page_span, read, write};

fn balloon(disk: &Zram, unit: BalloonUnit) -> Arc<Balloon> {
    let config = BalloonConfig { unit, ..BalloonConfig::default() };
    Balloon::new(Arc::clone(disk.zone()), Arc::new(OsHost), config).expect("a number is left")
}

#[test]
fn ballooned_frames_are_neither_used_nor_held() {
    let disk = disk_of_frames(32 << 20, 4096);
    (0..1000).for_each(|number| write(&disk, number, &page(number, 4096)).expect("enough memory"));
    let before = disk.stat();
    let balloon = balloon(&disk, BalloonUnit::BlocksFirst);
    assert_eq!(balloon.set_target(FrameCount(1024)).stop, StopReason::Reached);
    disk.check().expect("sound with a balloon");
    let after = disk.stat();
    assert_eq!(after.mm.mem_used_total, before.mm.mem_used_total);
    let grown = after.memory.mem_total - before.memory.mem_total;
    assert!(grown < 64 << 10, "only descriptors: {grown}");
    assert!((0..1000).all(|number| read(&disk, number) == page(number, 4096)));
    drop(balloon);
    disk.check().expect("sound without one again");
}

/// a write that would be refused deflates the balloon first, until it is empty.
#[test]
fn r160_a_write_at_the_limit_deflates_the_balloon() {
    for unit in [BalloonUnit::BlocksFirst, BalloonUnit::Frames] {
        let disk = disk_of_frames(32 << 20, 2000);
        let balloon = balloon(&disk, unit);
        assert_eq!(balloon.set_target(FrameCount(1500)).stop, StopReason::Reached);
        let written = (0..3000)
            .take_while(|&number| write(&disk, number, &page(number, 4096)).is_ok())
            .count() as u64;
        assert_eq!((written, balloon.stats().actual.0), (2000, 0), "{unit:?}");
        assert!(balloon.stats().oom_deflated_total >= 1500);
        assert!((0..written).all(|number| read(&disk, number) == page(number, 4096)));
        disk.check().expect("sound");
    }
}

/// Writers, balloon and compaction run at once: every page read is one that was written.
#[test]
fn balloon_and_compaction_leave_every_byte_of_a_store() {
    const PAGES: u64 = 1500;
    let run = Duration::from_millis(1500);
    let disk = disk_of_frames(32 << 20, 4096);
    let balloon = balloon(&disk, BalloonUnit::Frames);
    let stop = AtomicBool::new(false);
    let going = || !stop.load(Relaxed);
    std::thread::scope(|scope| {
        let (disk, balloon, going) = (&disk, &balloon, &going);
        for thread in 0..2_u64 {
            scope.spawn(move || {
                let mut rng = Rng::with_seed(thread);
                while going() {
                    // Each thread owns the pages of its own parity, so it knows whether a page
                    // holds its number or nothing.
                    let number = rng.u64(..PAGES / 2) * 2 + thread;
                    if rng.bool() {
                        write(disk, number, &page(number, 4096)).expect("the balloon deflates");
                        assert!(read(disk, number) == page(number, 4096), "page {number}");
                    } else {
                        disk.discard(page_span(disk, number)).expect("discard");
                        assert!(read(disk, number).iter().all(|&byte| byte == 0), "page {number}");
                    }
                }
            });
        }
        scope.spawn(move || {
            let mut target = 1;
            while going() {
                target = target * 7 % 3001;
                let change = balloon.set_target(FrameCount(target));
                assert!(
                    !matches!(change.stop, StopReason::Refused(_) | StopReason::Reentered),
                    "{change:?}"
                );
            }
        });
        scope.spawn(move || {
            while going() {
                disk.compact(&Budget::within(Duration::from_millis(5)));
                disk.compact_frames(&Budget::within(Duration::from_millis(5)));
            }
        });
        let start = Instant::now();
        while start.elapsed() < run {
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Relaxed);
    });
    let stats = balloon.stats();
    assert!(
        stats.inflated_total > 0 && stats.deflated_total > 0 && stats.migrated_total > 0,
        "{stats:?}"
    );
    balloon.check().expect("the balloon is sound");
    disk.check().expect("sound");
    println!("{stats:?}");
}
