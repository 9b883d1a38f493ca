//! Background reclaim, so that writes need not reclaim themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use block::{BlockDevice, Bytes, Span};
use frames::{Kswapd, Pressure, VmStat};
use zcomp::Algorithm;
use zram::{Zram, ZramConfig};

fn disk() -> Zram {
    let algorithm = Algorithm::Lz4 { acceleration: 1 };
    let mem_limit = Some(Bytes(2000 * 4096));
    Zram::new(ZramConfig { algorithm, mem_limit, ..ZramConfig::new(Bytes(64 << 20)) })
        .expect("a small disk")
}

fn span(disk: &Zram, page: u64) -> Span {
    Span::new(page * 4096, 4096, disk.size()).expect("inside")
}

/// Returns `noisy` bytes that do not compress, then blanks.
fn page(seed: u64, noisy: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..4096).map(|at| if at < noisy { next() } else { b' ' }).collect()
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
        disk.write(span(disk, stored), &page(stored, 1000)).expect("enough memory");
        stored += 1;
    }
    (0..stored).step_by(2).for_each(|number| disk.discard(span(disk, number)).expect("fine"));
    for number in stored..stored + 700 {
        disk.write(span(disk, number), &page(number, 4096))
            .expect("enough memory after compaction");
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
