//! A disk whose memory fails, by the signals that the kernel sends: each page reads whole or is
//! an error, for itself alone.

#![cfg(not(any(loom, shuttle, miri)))]
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;

use block::{BlockDevice, BlockError, Bytes, Span};
use frames::{FrameCount, Pfn};
use sys::memory_failure::{Injection, catch_memory_failures};
use zram::{Budget, Zram, ZramConfig};

use support::{config, noise, try_read};

const PAGES: u64 = 1024;

fn disk(hot_frames: Option<u64>) -> Zram {
    catch_memory_failures().expect("a handler");
    let hot_cache = hot_frames.map(|frames| Bytes(frames * 4096));
    support::disk(ZramConfig { hot_cache, ..config(PAGES * 4096) })
}

fn span(at: u64, len: u64) -> Span {
    Span::new(at, len, Bytes(PAGES * 4096)).expect("inside")
}

/// Returns a page: one seed in four gives noise, one in eight a pattern, the others text.
fn page(seed: u64) -> Vec<u8> {
    if seed.is_multiple_of(4) {
        return noise(seed, 4096);
    }
    let byte = |at: u64| match seed % 8 {
        1 => seed as u8 ^ (at % 8) as u8,
        _ if at % 8 < 2 => (seed * 31 + at * at / 7) as u8,
        _ => b' ',
    };
    (0..4096).map(byte).collect()
}

fn write(disk: &Zram, number: u64, bytes: &[u8]) {
    disk.write(span(number * 4096, 4096), bytes).expect("enough memory");
}

/// Returns whether the page is lost. If it is not, checks that it reads as written.
fn is_lost(disk: &Zram, number: u64, written: &[u8]) -> bool {
    match try_read(disk, number) {
        Ok(bytes) => {
            assert!(bytes == written, "page {number} reads other bytes than were written");
            false
        }
        Err(error) => {
            assert_eq!(error, BlockError::Damaged { offset: number * 4096 });
            true
        }
    }
}

/// Makes the memory of every frame in use that `chosen` selects fail. Returns how many.
fn fail(disk: &Zram, chosen: impl Fn(u32) -> bool) -> u64 {
    let zone = disk.zone();
    let in_use = (0..zone.capacity().0 as u32).filter(|&number| zone.get(Pfn(number)).is_some());
    let failing: Vec<_> = in_use.filter(|&number| chosen(number)).collect();
    let inject = |&number: &u32| zone.inject_memory_failure(Pfn(number), Injection::ActionRequired);
    failing.iter().for_each(|number| inject(number).expect("the signal is sent"));
    failing.len() as u64
}

/// pages in failed frames are errors, and no other pages are. An overwrite or a discard
/// makes each readable again, and its frame is then out of use.
#[test]
fn r025_pages_in_failed_frames_are_errors() {
    for hot_frames in [None, Some(64)] {
        let disk = disk(hot_frames);
        let mut pages: Vec<_> = (0..PAGES).map(page).collect();
        (0..PAGES).for_each(|number| write(&disk, number, &pages[number as usize]));
        if hot_frames.is_some() {
            // Writing a part makes a page hot.
            for number in 100..160 {
                disk.write(span(number * 4096 + 512, 64), &[b'#'; 64]).expect("enough memory");
                pages[number as usize][512..576].fill(b'#');
            }
            assert!(disk.stat().hot.hot_pages > 50);
        }
        let failed = fail(&disk, |number| number % 11 == 5);
        let is_lost = |number: u64| is_lost(&disk, number, &pages[number as usize]);
        let lost: Vec<_> = (0..PAGES).filter(|&number| is_lost(number)).collect();
        assert!(
            lost.len() as u64 >= failed / 2 && lost.len() < PAGES as usize / 2,
            "{} of {failed}",
            lost.len()
        );
        assert!(
            hot_frames.is_none() || lost.iter().any(|number| (100..160).contains(number)),
            "hot pages, too"
        );
        assert_eq!(disk.stat().io.failed_reads, lost.len() as u64);
        disk.check().expect("sound");
        disk.compact(&Budget::unlimited());
        disk.compact_frames(&Budget::unlimited());
        disk.check().expect("sound");
        assert_eq!(
            (0..PAGES).filter(|&number| is_lost(number)).collect::<Vec<_>>(),
            lost,
            "nothing else is lost"
        );
        for &number in &lost {
            let part = disk.write(span(number * 4096 + 9, 3), b"abc");
            assert_eq!(
                part,
                Err(BlockError::Damaged { offset: number * 4096 }),
                "a part cannot be merged with a lost page"
            );
            if number % 2 == 0 {
                write(&disk, number, &pages[number as usize]);
                assert!(!is_lost(number));
            } else {
                disk.discard(span(number * 4096, 4096)).expect("needs nothing of the page");
                assert_eq!(try_read(&disk, number), Ok(vec![0; 4096]));
                write(&disk, number, &pages[number as usize]);
            }
        }
        assert_eq!((0..PAGES).filter(|&number| is_lost(number)).count(), 0);
        disk.check().expect("sound");
        disk.discard(span(0, PAGES * 4096)).expect("always possible");
        disk.zone().drain();
        let stats = disk.zone().memory_failure_stats();
        assert_eq!(
            (stats.total, stats.recovered, stats.delayed),
            (FrameCount(failed), FrameCount(failed), FrameCount(0))
        );
        disk.check().expect("sound");
    }
}

/// A full cache evicts pages to the pool, but never one whose memory failed.
#[test]
fn r025_a_failed_hot_page_is_not_evicted() {
    let disk = disk(Some(16));
    let mut pages: Vec<_> = (0..PAGES).map(page).collect();
    (0..PAGES).for_each(|number| write(&disk, number, &pages[number as usize]));
    let mut touch = |number: u64, byte: u8| {
        let done = disk.write(span(number * 4096 + 512, 64), &[byte; 64]);
        if done.is_ok() {
            pages[number as usize][512..576].fill(byte);
        }
        done
    };
    let before: Vec<_> = (0..disk.zone().capacity().0 as u32)
        .filter(|&n| disk.zone().get(Pfn(n)).is_some())
        .collect();
    (0..16).for_each(|number| touch(number, b'#').expect("enough memory"));
    assert_eq!(disk.stat().hot.hot_pages, 16);
    // The frames allocated since: those of hot pages, and perhaps some of the pool.
    let failed = fail(&disk, |number| !before.contains(&number) && number % 2 == 0);
    assert!(failed > 0);
    for round in 0..4 {
        (16..200).for_each(|number| _ = touch(number, b'a' + round));
    }
    assert!(disk.stat().hot.evictions > 0);
    let lost: Vec<_> =
        (0..PAGES).filter(|&number| is_lost(&disk, number, &pages[number as usize])).collect();
    assert!(!lost.is_empty());
    for number in lost {
        write(&disk, number, &pages[number as usize]);
        assert!(!is_lost(&disk, number, &pages[number as usize]));
    }
    disk.check().expect("sound");
    assert_eq!(disk.zone().memory_failure_stats().delayed, FrameCount(0));
}
