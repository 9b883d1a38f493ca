//! Zeros that stay allocated: each page reserves a frame, which its next write spends and every
//! other change releases.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use block::{AllocationState, BlockDevice, BlockError, Bytes, Span, ZeroMode, ZeroSpeed};
use frames::FrameCount;
use zram::{Zram, ZramConfig};

use support::{config, disk_of_frames, page, read, span, status, write};

const LIMIT: u64 = 64;

fn disk(pages: u64) -> Zram {
    disk_of_frames(pages * 4096, LIMIT)
}

fn pages(disk: &Zram, first: u64, count: u64) -> Span {
    span(disk, first * 4096, count * 4096)
}

fn keep(disk: &Zram, span: Span) -> Result<(), BlockError> {
    disk.write_zeroes(span, ZeroMode::KeepAllocated, ZeroSpeed::Any)
}

/// Writes noise from page `first` on until a write is refused. Returns the pages written.
fn fill_up(disk: &Zram, first: u64) -> u64 {
    let refused = (first..).find(|&number| write(disk, number, &page(number, 4096)).is_err());
    refused.expect("a limit") - first
}

#[test]
fn zeros_that_do_not_fit_change_nothing() {
    let disk = disk(4096);
    write(&disk, 3, &page(3, 4096)).expect("enough memory");
    let before = disk.stat();
    for (first, count) in [(0, 4096), (0, LIMIT), (3, LIMIT + 1), (100, LIMIT)] {
        let refused = keep(&disk, pages(&disk, first, count));
        assert_eq!(
            refused,
            Err(BlockError::NoSpace { offset: first * 4096 }),
            "{count} pages from {first}"
        );
    }
    let after = disk.stat();
    assert_eq!((after.mm, after.memory, after.reserved), (before.mm, before.memory, 0));
    assert_eq!(status(&disk, pages(&disk, 0, 3)), [(3 * 4096, AllocationState::Hole)]);
    assert_eq!(read(&disk, 3), page(3, 4096));
    keep(&disk, pages(&disk, 100, LIMIT - 1)).expect("one frame a page fits");
    disk.check().expect("sound");
}

#[test]
fn every_reserved_page_takes_any_first_write() {
    for noisy in [4096, 3000, 100] {
        let disk = disk(4096);
        keep(&disk, pages(&disk, 0, 40)).expect("enough memory");
        assert_eq!(disk.stat().reserved, 40 * 4096);
        assert_eq!(fill_up(&disk, 1000), LIMIT - 40, "reservations count against the limit");
        for number in (0..40).rev() {
            write(&disk, number, &page(number, noisy)).expect("reserved");
            disk.check().expect("sound");
        }
        assert!((0..40).all(|number| read(&disk, number) == page(number, noisy)));
        assert_eq!(disk.stat().reserved, 0, "spent or released");
        assert!(disk.stat().mm.mem_used_total <= LIMIT * 4096);
    }
}

#[test]
fn a_part_of_a_reserved_page_can_be_written() {
    let disk = disk(4096);
    keep(&disk, pages(&disk, 0, 8)).expect("enough memory");
    fill_up(&disk, 1000);
    for number in 0..8 {
        disk.write(span(&disk, number * 4096 + 77, 3500), &page(number, 3500)[..3500])
            .expect("reserved");
        let back = read(&disk, number);
        assert!(
            back[..77] == [0; 77]
                && back[77..3577] == page(number, 3500)[..3500]
                && back[3577..] == [0; 519]
        );
    }
    disk.check().expect("sound");
}

#[test]
fn status_separates_reserved_zeros_from_other_pages() {
    let disk = disk(16);
    keep(&disk, pages(&disk, 2, 3)).expect("enough memory");
    write(&disk, 8, &[0; 4096]).expect("enough memory");
    write(&disk, 3, &page(1, 4096)).expect("enough memory");
    let expected = [
        (2 * 4096, AllocationState::Hole),
        (4096, AllocationState::Zero),
        (4096, AllocationState::Data),
        (4096, AllocationState::Zero),
        (11 * 4096, AllocationState::Hole),
    ];
    assert_eq!(status(&disk, pages(&disk, 0, 16)), expected);
    assert_eq!(read(&disk, 2), vec![0; 4096]);
    disk.check().expect("sound");
}

#[test]
fn partial_pages_are_zeroed_and_stay_allocated() {
    let disk = disk(16);
    write(&disk, 0, &page(1, 4096)).expect("enough memory");
    write(&disk, 5, &[&[0; 4000][..], &[1; 96]].concat()).expect("enough memory");
    keep(&disk, span(&disk, 100, 5 * 4096)).expect("enough memory");
    assert!(read(&disk, 0)[..100] == page(1, 4096)[..100] && read(&disk, 0)[100..] == [0; 3996]);
    keep(&disk, span(&disk, 5 * 4096 + 50, 4046)).expect("enough memory");
    keep(&disk, span(&disk, 9 * 4096 + 50, 1)).expect("enough memory");
    let expected = [
        (4096, AllocationState::Data),
        (5 * 4096, AllocationState::Zero),
        (3 * 4096, AllocationState::Hole),
        (4096, AllocationState::Zero),
    ];
    assert_eq!(status(&disk, pages(&disk, 0, 10)), expected);
    assert_eq!(disk.stat().reserved, 6 * 4096);
    disk.check().expect("sound");
}

#[test]
fn replacing_reserved_zeros_releases_the_reservation() {
    let disk = disk(4096);
    let all = pages(&disk, 0, LIMIT);
    for round in 0..4 {
        keep(&disk, all).expect("all of the limit");
        keep(&disk, all).expect("what is reserved is reserved");
        assert!(write(&disk, 1000, &page(1, 4096)).is_err());
        // Four ways to replace reserved zeros.
        match round {
            0 => disk.discard(all).expect("fine"),
            1 => disk.write_zeroes(all, ZeroMode::MayUnmap, ZeroSpeed::FastOnly).expect("fine"),
            2 => disk.write_zeroes(all, ZeroMode::MayUnmap, ZeroSpeed::Any).expect("fine"),
            _ => disk.write(all, &vec![0x5a; LIMIT as usize * 4096]).expect("no memory is needed"),
        }
        assert_eq!(
            (disk.stat().reserved, disk.zone().stats().reserved),
            (0, FrameCount(0)),
            "round {round}"
        );
        write(&disk, 1000, &page(1, 4096)).expect("enough memory");
        disk.discard(pages(&disk, 1000, 1)).expect("fine");
        disk.check().expect("sound");
    }
}

#[test]
fn a_dropped_device_releases_its_reservations() {
    let disk = disk(4096);
    keep(&disk, pages(&disk, 7, 30)).expect("enough memory");
    let zone = Arc::clone(disk.zone());
    assert_eq!(zone.stats().reserved, FrameCount(30));
    drop(disk);
    assert_eq!(zone.stats().reserved, FrameCount(0));
    zone.check().expect("sound");
}

/// Writes, discards and zeros race for the same few slots below a low limit. In the end each
/// reservation belongs to an entry.
#[test]
fn racing_requests_release_each_reservation_once() {
    let disk = disk(4096);
    let refused = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (disk, refused) = (&disk, &refused);
            scope.spawn(move || {
                for round in 0..1500u64 {
                    let at = (round * 7 + thread) % 8;
                    let count = |result: Result<(), BlockError>| match result {
                        Err(BlockError::NoSpace { .. }) => {
                            _ = refused.fetch_add(1, Ordering::Relaxed)
                        }
                        other => other.expect("only memory may be short"),
                    };
                    match (round + thread) % 5 {
                        0 => count(keep(disk, pages(disk, at, 40))),
                        1 => count(write(disk, at, &page(round, 4096))),
                        2 => disk.discard(pages(disk, at, 2)).expect("fine"),
                        3 => count(
                            disk.write(span(disk, at * 4096 + 5, 3000), &page(round, 3000)[..3000]),
                        ),
                        _ => count(keep(disk, span(disk, at * 4096 + 9, 9000))),
                    }
                }
            });
        }
    });
    disk.check().expect("sound");
    disk.discard(pages(&disk, 0, 4096)).expect("fine");
    assert_eq!((disk.stat().reserved, disk.zone().stats().reserved), (0, FrameCount(0)));
    assert_eq!(fill_up(&disk, 0), LIMIT, "the whole limit is usable");
}

/// A hot page whose last data is zeroed with [`ZeroMode::KeepAllocated`] stays allocated: a frame
/// is reserved, and its eviction leaves no hole.
#[test]
fn a_hot_page_of_zeros_keeps_its_reservation() {
    let disk = support::disk(ZramConfig { hot_cache: Some(Bytes(4 * 4096)), ..config(8 * 4096) });
    disk.write(span(&disk, 100, 50), &[7; 50]).expect("enough memory");
    assert_eq!(disk.stat().hot.hot_pages, 1, "a page that is written in part is hot");
    keep(&disk, span(&disk, 1, 4000)).expect("enough memory");
    assert_eq!(status(&disk, pages(&disk, 0, 1)), [(4096, AllocationState::Zero)]);
    disk.zone().shrink(FrameCount(u64::MAX), &frames::NoLocksHeld::promise());
    assert_eq!(status(&disk, pages(&disk, 0, 1)), [(4096, AllocationState::Zero)]);
    assert_eq!((disk.stat().hot.hot_pages, read(&disk, 0)), (0, vec![0; 4096]));
    // A page that keeps other data reserves nothing: that data is allocated.
    disk.write(span(&disk, 4096 + 100, 50), &[7; 50]).expect("enough memory");
    keep(&disk, span(&disk, 4096 + 1, 110)).expect("enough memory");
    disk.zone().shrink(FrameCount(u64::MAX), &frames::NoLocksHeld::promise());
    assert_eq!(status(&disk, pages(&disk, 1, 1)), [(4096, AllocationState::Data)]);
    disk.check().expect("sound");
}

/// The memory limit keeps what the tables of reserved pages will need. Another client that makes
/// the slot table grow up to the limit takes none of it: every reserved page takes its first
/// write.
#[test]
fn growing_tables_leave_reserved_pages_their_memory() {
    const PAGES: u64 = 1 << 20;
    const EVERY: u64 = 512;
    for (limit, share) in
        [(1 << 20, 100), (2 << 20, 100), (4 << 20, 10), (4 << 20, 100), (16 << 20, 80)]
    {
        let mem_limit = Some(Bytes(limit));
        let disk = support::disk(ZramConfig { mem_limit, ..config(PAGES * 4096) });
        let most = (0..limit / 4096 * share / 100)
            .take_while(|&number| keep(&disk, pages(&disk, number, 1)).is_ok());
        let reserved = most.count() as u64;
        assert!(reserved > 0, "nothing could be reserved below {limit}");
        let same = [7; 4096];
        // One page in each chunk of the slot table, above the reserved ones.
        let far = |number: u64| PAGES / 2 + number * EVERY;
        let others =
            (0..PAGES / 2 / EVERY).take_while(|&number| write(&disk, far(number), &same).is_ok());
        let others = others.count();
        for number in 0..reserved {
            let written = write(&disk, number, &page(number, 4096));
            assert!(
                written.is_ok(),
                "{limit} {share}: page {number} of {reserved} beside {others}: {written:?}"
            );
        }
        let stat = disk.stat();
        assert!(
            stat.memory.mem_total <= limit,
            "{} bytes are held below {limit}",
            stat.memory.mem_total
        );
        disk.check().expect("sound");
    }
}
