//! Many threads on the same hot pages: no byte is lost.

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use block::{BlockDevice, Bytes, Span};
use fastrand::Rng;
use frames::FrameCount;
use zram::{Budget, Zram, ZramConfig};

use support::config;

const PAGES: u64 = 6;
const RUN: Duration = Duration::from_millis(1500);
/// The bytes of each page that each writer owns.
const PART: u64 = 512;

fn span(at: u64, len: u64) -> Span {
    Span::new(at, len, Bytes(PAGES * 4096)).expect("inside")
}

/// Creates a disk whose cache holds fewer pages than are in use, so that they are evicted all the
/// time.
fn disk(hot_frames: u64, limit: Option<u64>) -> Zram {
    let hot_cache = Some(Bytes(hot_frames * 4096));
    let disk = support::disk(ZramConfig { hot_cache, ..config(PAGES * 4096) });
    if limit.is_some() {
        disk.zone().set_limit(limit.map(FrameCount));
    }
    disk
}

/// Z2, Z6, R-020: three writers each own a part of every page and remember what they wrote there,
/// while pages are evicted, moved, compacted and read. A writer always reads its own last write,
/// and a reader never sees a torn part.
#[test]
fn z6_parts_written_to_hot_pages_are_never_lost() {
    for (hot_frames, limit) in [(2, None), (4, Some(12))] {
        let disk = disk(hot_frames, limit);
        let stop = AtomicBool::new(false);
        let (writes, reads) = (AtomicU64::new(0), AtomicU64::new(0));
        let going = || !stop.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            // Writers, each of its own part of every page.
            for writer in 0..3u64 {
                let (disk, going, writes) = (&disk, &going, &writes);
                scope.spawn(move || {
                    let mut mine = [0u8; PAGES as usize];
                    let mut rng = Rng::with_seed(writer);
                    while going() {
                        let page = rng.u64(..PAGES);
                        let at = page * 4096 + writer * PART;
                        let mut part = [0; PART as usize];
                        disk.read(span(at, PART), &mut part).expect("nothing is damaged");
                        assert!(
                            part.iter().all(|&byte| byte == mine[page as usize]),
                            "page {page}: a write was lost"
                        );
                        let byte = mine[page as usize].wrapping_add(1);
                        disk.write(span(at, PART), &[byte; PART as usize]).expect("enough memory");
                        mine[page as usize] = byte;
                        writes.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            scope.spawn(|| {
                let mut page = [0; 4096];
                for round in 0.. {
                    if !going() {
                        break;
                    }
                    disk.read(span(round % PAGES * 4096, 4096), &mut page)
                        .expect("nothing is damaged");
                    let whole = |part: &[u8]| part.iter().all(|&byte| byte == part[0]);
                    assert!(page.chunks(PART as usize).take(3).all(whole), "a part is torn");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
            scope.spawn(|| {
                while going() {
                    disk.compact_frames(&Budget::within(Duration::from_millis(1)));
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
        let hot = disk.stat().hot;
        assert!(writes.load(Ordering::Relaxed) > 100 && reads.load(Ordering::Relaxed) > 100);
        assert!(hot.hits > 0 && hot.evictions > 0, "{hot:?}");
        disk.check().expect("sound");
    }
}

/// R-505, Z9: partial writes against discards and overwrites of the same pages. Each page ends as
/// some order of the requests leaves it, and nothing leaks.
#[test]
fn z9_discards_and_overwrites_free_hot_pages_once() {
    let disk = disk(3, None);
    let stop = AtomicBool::new(false);
    let going = || !stop.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for writer in 0..2u64 {
            let (disk, going) = (&disk, &going);
            scope.spawn(move || {
                for round in writer.. {
                    if !going() {
                        break;
                    }
                    let page = round % PAGES;
                    match round % 7 {
                        0 => disk.discard(span(page * 4096, 4096)).expect("discard"),
                        1 => disk
                            .write(span(page * 4096, 4096), &[round as u8; 4096])
                            .expect("enough memory"),
                        _ => {
                            disk.write(
                                span(page * 4096 + round % 8 * 512, 512),
                                &[round as u8; 512],
                            )
                            .expect("enough memory");
                        }
                    }
                }
            });
        }
        scope.spawn(|| {
            let mut page = [0; 4096];
            for round in 0.. {
                if !going() {
                    break;
                }
                disk.read(span(round % PAGES * 4096, 4096), &mut page).expect("nothing is damaged");
                let whole = |part: &[u8]| part.iter().all(|&byte| byte == part[0]);
                assert!(page.chunks(512).all(whole), "a write is torn");
            }
        });
        scope.spawn(|| {
            while going() {
                disk.compact_frames(&Budget::within(Duration::from_millis(1)));
                std::thread::yield_now();
            }
        });
        let end = Instant::now() + RUN;
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
    });
    disk.check().expect("sound");
    disk.discard(span(0, PAGES * 4096)).expect("discard");
    assert_eq!((disk.stat().hot.hot_pages, disk.zone().stats().in_use.0), (0, 0));
    disk.check().expect("sound");
}
