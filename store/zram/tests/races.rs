//! Many threads on the same pages.

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use block::{BlockDevice, Bytes, Span, ZeroMode, ZeroSpeed};
use fastrand::Rng;
use zram::{Budget, Zram};

use support::config;

const PAGES: u64 = 8;
const RUN: Duration = Duration::from_millis(600);

fn disk() -> Zram {
    support::disk(config(PAGES * 4096))
}

fn span(at: u64, len: u64) -> Span {
    Span::new(at, len, Bytes(PAGES * 4096)).expect("inside")
}

/// Returns a page with the tag in each of its 16-byte lines. Every fourth tag does not compress,
/// and tag 0 is zeros.
fn tagged(tag: u64) -> [u8; 4096] {
    let line = |at: usize| match tag % 4 {
        _ if tag == 0 => (0, 0),
        3 => (
            tag,
            (tag ^ (at as u64) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(at as u32),
        ),
        1 => (tag, tag),
        _ => (tag, at as u64 / 3),
    };
    let mut page = [0; 4096];
    for (at, bytes) in page.chunks_exact_mut(16).enumerate() {
        let (first, second) = line(at);
        bytes[..8].copy_from_slice(&first.to_le_bytes());
        bytes[8..].copy_from_slice(&second.to_le_bytes());
    }
    page
}

fn tag_of(page: &[u8; 4096]) -> u64 {
    u64::from_le_bytes(page[..8].try_into().expect("eight bytes"))
}

/// R-506, Z2, Z9: a reader sees the page of one write, never a mix. In the end each object
/// belongs to one slot, and nothing leaks.
#[test]
fn r506_z9_racing_writes_leave_whole_pages_no_leak() {
    let disk = disk();
    let (stop, next, reads) = (AtomicBool::new(false), AtomicU64::new(1), AtomicU64::new(0));
    let going = || !stop.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        // Writers of whole pages, with some discards and zeroes.
        for thread in 0..2u64 {
            let (disk, next, going) = (&disk, &next, &going);
            scope.spawn(move || {
                let mut rng = Rng::with_seed(thread);
                while going() {
                    let page = rng.u64(..PAGES);
                    match rng.u8(..16) {
                        0 => disk.discard(span(page * 4096, 4096)).expect("discard"),
                        1 => disk
                            .write_zeroes(
                                span(page * 4096, 4096),
                                ZeroMode::KeepAllocated,
                                ZeroSpeed::Any,
                            )
                            .expect("zeroes"),
                        _ => {
                            let tag = next.fetch_add(1, Ordering::Relaxed);
                            disk.write(span(page * 4096, 4096), &tagged(tag))
                                .expect("enough memory");
                        }
                    }
                }
            });
        }
        // Readers, which check that a page is the one its first line names.
        for thread in 0..2u64 {
            let (disk, reads, going) = (&disk, &reads, &going);
            scope.spawn(move || {
                let mut page = [0; 4096];
                for round in thread.. {
                    if !going() {
                        break;
                    }
                    disk.read(span(round % PAGES * 4096, 4096), &mut page)
                        .expect("nothing is damaged");
                    assert!(page == tagged(tag_of(&page)), "a mix of two pages");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            while going() {
                disk.compact(&Budget::within(Duration::from_millis(1)));
                std::thread::yield_now();
            }
        });
        let end = Instant::now() + RUN;
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(next.load(Ordering::Relaxed) > 100 && reads.load(Ordering::Relaxed) > 100);
    disk.check().expect("sound");
    disk.discard(span(0, PAGES * 4096)).expect("discard");
    assert_eq!((disk.stat().mm.mem_used_total, disk.stat().mm.compr_data_size), (0, 0));
    disk.check().expect("sound");
}

/// Z6, R-503: parts of one page that several threads write at once all arrive, in any order of
/// the merges.
#[test]
fn z6_parts_of_one_page_written_at_once_all_arrive() {
    let disk = disk();
    for round in 1..=200u8 {
        std::thread::scope(|scope| {
            for part in 0..4u64 {
                let disk = &disk;
                scope.spawn(move || {
                    disk.write(span(4096 + part * 1000, 1000), &[round ^ part as u8; 1000])
                        .expect("enough memory")
                });
            }
        });
        let mut page = [0; 4096];
        disk.read(span(4096, 4096), &mut page).expect("nothing is damaged");
        for part in 0..4u8 {
            let from = usize::from(part) * 1000;
            assert!(
                page[from..from + 1000].iter().all(|&byte| byte == round ^ part),
                "round {round}, part {part}"
            );
        }
    }
    disk.check().expect("sound");
}

/// a discard needs neither a codec nor memory, and completes while other threads read and
/// write its pages.
#[test]
fn r505_discards_complete_beside_readers_and_writers() {
    let disk = disk();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (disk, stop) = (&disk, &stop);
            scope.spawn(move || {
                let mut page = tagged(thread + 2);
                while !stop.load(Ordering::Relaxed) {
                    disk.write(span(0, 4096), &page).expect("enough memory");
                    disk.read(span(0, 4096), &mut page).expect("nothing is damaged");
                    page = tagged(thread + 2);
                }
            });
        }
        for _ in 0..20_000 {
            disk.discard(span(0, PAGES * 4096)).expect("discard");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(disk.stat().io.notify_free, 20_000 * PAGES);
    disk.check().expect("sound");
}
