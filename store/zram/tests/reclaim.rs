//! Background reclaim, so that writes need not reclaim themselves.

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use block::{BlockDevice, Bytes};
use frames::{Kswapd, Pressure, VmStat};
use zram::{Zram, ZramConfig};

use support::{config, page, page_span, write};

fn disk() -> Zram {
    support::disk(ZramConfig { mem_limit: Some(Bytes(2000 * 4096)), ..config(64 << 20) })
}

fn free_frames(disk: &Zram) -> u64 {
    let stats = disk.zone().stats();
    stats.limit.map_or(0, |limit| limit.0 - stats.in_use.0)
}

/// Fills a disk, empties every other page, and writes pages that take a frame each: they fit only
/// after compaction.
fn write_to_a_sparse_disk(disk: &Zram, mut after_each: impl FnMut()) -> VmStat {
    let mut stored = 0;
    while free_frames(disk) > 400 {
        write(disk, stored, &page(stored, 1000)).expect("enough memory");
        stored += 1;
    }
    (0..stored).step_by(2).for_each(|number| disk.discard(page_span(disk, number)).expect("fine"));
    for number in stored..stored + 700 {
        write(disk, number, &page(number, 4096)).expect("enough memory after compaction");
        after_each();
    }
    disk.check().expect("sound");
    disk.zone().vmstat()
}

/// with the reclaim thread, writes that leave it time never reclaim themselves.
#[test]
fn r337_slow_writes_never_reclaim_themselves() {
    let disk = disk();
    let _kswapd = Kswapd::start(disk.zone()).expect("a thread");
    let zone = Arc::clone(disk.zone());
    let stat = write_to_a_sparse_disk(&disk, || {
        let start = Instant::now();
        while zone.pressure() >= Pressure::BelowLow {
            assert!(start.elapsed() < Duration::from_secs(30), "no reclaim: {:?}", zone.vmstat());
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    assert_eq!(stat.allocstall, 0, "{stat:?}");
    assert!(stat.pageoutrun > 0 && stat.pgsteal_kswapd > 100, "{stat:?}");
}

/// The same writes without the reclaim thread reclaim themselves.
#[test]
fn r337_without_the_thread_writes_reclaim() {
    let disk = disk();
    let stat = write_to_a_sparse_disk(&disk, || {});
    assert!(stat.allocstall > 0 && stat.pgsteal_direct > 100, "{stat:?}");
    assert_eq!(stat.pageoutrun, 0);
}
