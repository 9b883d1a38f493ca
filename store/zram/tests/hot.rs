//! The cache of hot pages: what it admits, what it evicts, and what it counts.

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;

use block::{
    AllocationState, BlockDevice, BlockError, Bytes, Span, StatusExtent, ZeroMode, ZeroSpeed,
};
use frames::FrameCount;
use zram::{Budget, Movability, Zram, ZramConfig};

use support::{page, read};

const PAGES: u64 = 1024;

fn config(hot_frames: u64) -> ZramConfig {
    ZramConfig { hot_cache: Some(Bytes(hot_frames * 4096)), ..support::config(PAGES * 4096) }
}

fn disk(hot_frames: u64) -> Zram {
    Zram::new(config(hot_frames)).expect("a small disk")
}

fn span(at: u64, len: u64) -> Span {
    Span::new(at, len, Bytes(PAGES * 4096)).expect("inside")
}

/// Returns a page that compresses to about a quarter.
fn text(seed: u64) -> Vec<u8> {
    (0..4096u64).map(|at| if at % 8 < 2 { (seed * 31 + at * at / 7) as u8 } else { b' ' }).collect()
}

/// Returns a page that does not compress.
fn noise(seed: u64) -> Vec<u8> {
    page(seed, 4096)
}

fn write(disk: &Zram, page: u64, bytes: &[u8]) {
    disk.write(span(page * 4096, bytes.len() as u64), bytes).expect("enough memory");
}

/// Writes 512 bytes of a page that held `was`. Returns what the page holds then.
fn touch(disk: &Zram, page: u64, was: Vec<u8>) -> Vec<u8> {
    touch_with(disk, page, was, &[b'#'; 512])
}

fn touch_with(disk: &Zram, page: u64, mut was: Vec<u8>, part: &[u8]) -> Vec<u8> {
    was[1024..1536].copy_from_slice(part);
    disk.write(span(page * 4096 + 1024, 512), part).expect("enough memory");
    was
}

/// Writing a part of a page makes it hot. Reads and writes of it are hits from then on, and
/// change nothing else.
#[test]
fn a_page_is_hot_once_a_part_of_it_is_written() {
    let disk = disk(16);
    (0..4).for_each(|page| write(&disk, page, &text(page)));
    assert_eq!(disk.stat().hot.hot_pages, 0, "writing a whole page does not make it hot");
    let expected = touch(&disk, 2, text(2));
    let hot = disk.stat().hot;
    assert_eq!(
        (hot.hot_pages, hot.hot_bytes, hot.hot_limit, hot.admissions),
        (1, 4096, 16 * 4096, 1)
    );
    assert_eq!(read(&disk, 2), expected);
    touch(&disk, 2, text(2));
    assert_eq!((disk.stat().hot.hits, disk.stat().hot.admissions), (2, 1));
    // So does writing a part of an empty page.
    let fresh = touch(&disk, 9, vec![0; 4096]);
    assert_eq!((read(&disk, 9), disk.stat().hot.hot_pages), (fresh, 2));
    let stat = disk.stat();
    assert_eq!(stat.mm.orig_data_size, 5 * 4096);
    assert_eq!(stat.memory.hot, 2 * 4096);
    assert!(
        stat.memory.mem_total >= stat.memory.hot + stat.memory.hot_records
            && stat.memory.hot_records > 0
    );
    disk.check().expect("sound");
}

/// The second read in a short time makes a page hot if it must be decompressed. Raw pages and
/// patterns stay as they are.
#[test]
fn a_page_is_hot_once_it_is_read_twice() {
    let disk = disk(16);
    write(&disk, 0, &text(0));
    write(&disk, 1, &noise(1));
    write(&disk, 2, &[7; 4096]);
    for _ in 0..2 {
        assert_eq!(disk.stat().hot.hot_pages, 0);
        (0..3).for_each(|page| assert!(!read(&disk, page).is_empty()));
    }
    assert_eq!((disk.stat().hot.hot_pages, disk.stat().hot.hits), (1, 0));
    assert_eq!((read(&disk, 0), disk.stat().hot.hits), (text(0), 1));
    let mut part = [0; 100];
    disk.read(span(500, 100), &mut part).expect("fine");
    assert_eq!((&part[..], disk.stat().hot.hits), (&text(0)[500..600], 2));
    disk.check().expect("sound");
}

/// A verify does not count as a read and makes no page hot, however often it comes.
#[test]
fn a_verify_counts_as_no_read() {
    let disk = disk(16);
    write(&disk, 0, &text(0));
    touch(&disk, 1, text(1));
    let before = disk.stat();
    (0..3).for_each(|_| disk.verify(span(0, 2 * 4096)).expect("nothing is damaged"));
    assert_eq!((disk.stat().io, disk.stat().hot), (before.io, before.hot));
    disk.read(span(0, 2 * 4096), &mut [0; 2 * 4096]).expect("nothing is damaged");
    let stat = disk.stat();
    assert_eq!(
        (stat.hot.hot_pages, stat.hot.hits, stat.io.reads),
        (1, before.hot.hits + 1, before.io.reads + 2)
    );
}

/// The cache never exceeds its size, keeps pages that were used recently, and evicted pages read
/// as they were written.
#[test]
fn a_full_cache_evicts_its_oldest_page() {
    let disk = disk(8);
    let mut expected = Vec::new();
    for page in 0..100 {
        write(&disk, page, &text(page));
        expected.push(touch(&disk, page, text(page)));
        // Page 0 is used all the time.
        assert_eq!(read(&disk, 0), expected[0]);
        assert!(disk.stat().hot.hot_pages <= 8);
        disk.check().expect("sound");
    }
    let hot = disk.stat().hot;
    assert_eq!((hot.hot_pages, hot.evictions), (8, hot.admissions - 8));
    assert!(hot.hits >= 99, "page 0 stayed: {} hits", hot.hits);
    assert!((0..100).all(|page| read(&disk, page) == expected[page as usize]));
    disk.check().expect("sound");
}

/// A cache that is much too small for its workload admits few pages. When the workload returns to
/// the same pages, it admits them.
#[test]
fn a_cache_with_few_hits_admits_few_pages() {
    let disk = disk(8);
    (0..PAGES).for_each(|page| write(&disk, page, &text(page)));
    let touch = |page: u64, part: u64| {
        disk.write(span(page * 4096 + part * 512, 512), &[1; 512]).expect("enough memory")
    };
    (0..4).for_each(|part| (0..PAGES).for_each(|page| touch(page, part)));
    let useless = disk.stat().hot;
    assert!(useless.evictions < PAGES, "{useless:?} in {} writes", PAGES * 4);
    (0..PAGES).for_each(|page| (0..8).for_each(|part| touch(page, part)));
    let useful = disk.stat().hot;
    assert!(useful.admissions - useless.admissions > PAGES / 2, "{useful:?} after {useless:?}");
    assert!(useful.hits > PAGES * 3, "{useful:?}");
    disk.check().expect("sound");
}

/// An evicted page takes the form that any write of it would: compressed, a pattern, or raw.
#[test]
fn an_evicted_page_takes_the_cheapest_form() {
    let disk = disk(3);
    write(&disk, 0, &noise(0));
    let raw = touch_with(&disk, 0, noise(0), &noise(1)[..512]);
    write(&disk, 1, &[9; 4096]);
    let line = touch_with(&disk, 1, vec![9; 4096], &[9; 512]);
    touch(&disk, 2, vec![0; 4096]);
    assert_eq!(
        (disk.stat().mm.huge_pages, disk.stat().mm.same_pages, disk.stat().hot.hot_pages),
        (0, 0, 3)
    );
    (3..12).for_each(|page| drop(touch(&disk, page, vec![0; 4096])));
    let stat = disk.stat();
    assert_eq!((stat.mm.huge_pages, stat.mm.same_pages, stat.hot.evictions), (1, 1, 9));
    assert_eq!((read(&disk, 0), read(&disk, 1)), (raw, line));
    disk.check().expect("sound");
}

/// an overwrite changes a hot page; discards and zeroes free its frame at once.
#[test]
fn hot_pages_can_be_overwritten_discarded_and_zeroed() {
    let disk = disk(16);
    (0..6).for_each(|page| drop(touch(&disk, page, vec![0; 4096])));
    let runs = |at| {
        let mut runs = Vec::new();
        disk.status(span(at, 4096), &mut |run: StatusExtent| {
            runs.push(run.content);
            true
        });
        runs
    };
    assert_eq!(runs(0), [AllocationState::Data]);
    write(&disk, 0, &text(1));
    assert_eq!((read(&disk, 0), disk.stat().hot.hot_pages), (text(1), 6), "written in place");
    disk.discard(span(4096, 4096)).expect("fine");
    assert_eq!((runs(4096), disk.stat().hot.hot_pages), (vec![AllocationState::Hole], 5));
    disk.write_zeroes(span(2 * 4096, 4096), ZeroMode::KeepAllocated, ZeroSpeed::Any).expect("fine");
    assert_eq!((runs(2 * 4096), disk.stat().hot.hot_pages), (vec![AllocationState::Zero], 4));
    disk.write_zeroes(span(3 * 4096 + 1024, 256), ZeroMode::MayUnmap, ZeroSpeed::Any)
        .expect("fine");
    let page = read(&disk, 3);
    assert!(
        page[1024..1280].iter().all(|&byte| byte == 0)
            && page[1280..1536].iter().all(|&byte| byte == b'#')
    );
    disk.discard(span(0, PAGES * 4096)).expect("fine");
    assert_eq!((disk.stat().hot.hot_pages, disk.zone().stats().in_use.0), (0, 0));
    disk.check().expect("sound");
}

/// Hot pages that fill the arena can still be compressed, even if the arena has no frame above
/// the limit.
#[test]
fn hot_pages_that_fill_the_arena_can_be_evicted() {
    const BLOCK: Bytes = Bytes(512 * 4096);
    for mem_limit in [Some(BLOCK), None] {
        let disk = support::disk(ZramConfig { mem_limit, arena: Some(BLOCK), ..config(PAGES) });
        if mem_limit.is_none() {
            disk.set_mem_limit(None);
        }
        (0..PAGES).for_each(|page| write(&disk, page, &text(page)));
        let expected: Vec<_> = (0..PAGES).map(|page| touch(&disk, page, text(page))).collect();
        let hot = disk.stat().hot;
        assert!(hot.hot_pages > 100 && hot.evictions > 100, "{mem_limit:?}: {hot:?}");
        assert!((0..PAGES).all(|page| read(&disk, page) == expected[page as usize]));
        let stat = disk.stat();
        assert!(stat.mm.mem_used_total + stat.memory.hot <= BLOCK.0, "{:?}", stat.memory);
        disk.check().expect("sound");
    }
}

/// At the memory limit hot pages are evicted first: a disk with a cache stores as much as one
/// without.
#[test]
fn at_the_limit_hot_pages_are_evicted_for_writes() {
    let frames = 128;
    let capacity = |hot_cache| {
        let disk = Zram::new(ZramConfig { hot_cache, ..config(0) }).expect("a small disk");
        disk.zone().set_limit(Some(FrameCount(frames)));
        if hot_cache.is_some() {
            // The cache fills the limit to the last frame.
            (0..frames).for_each(|page| drop(touch(&disk, PAGES - 1 - page, vec![0; 4096])));
            assert_eq!(disk.zone().stats().in_use.0, frames);
        }
        let stored = (0..PAGES - frames)
            .take_while(|&page| disk.write(span(page * 4096, 4096), &text(page)).is_ok());
        let stored = stored.count() as u64;
        assert!((0..stored).all(|page| read(&disk, page) == text(page)));
        disk.check().expect("sound");
        (disk, stored)
    };
    // With a cache at least 95 % of the pages fit that fit without one.
    let (_, without) = capacity(None);
    let (disk, with) = capacity(Some(Bytes(frames * 4096)));
    assert!(without > 300);
    assert!(with * 100 >= without * 95, "{with} pages with a cache, {without} without");
    let mut expected = vec![0; 4096];
    expected[1024..1536].fill(b'#');
    assert!(
        (0..frames).all(|page| read(&disk, PAGES - 1 - page) == expected),
        "nothing hot was lost"
    );
    assert!(disk.stat().hot.evictions > 0);
}

/// hot pages that do not compress cannot be evicted. They stay readable and writable, and
/// a write that does not fit is refused.
#[test]
fn r508_at_the_limit_an_incompressible_hot_page_stays() {
    let disk = Zram::new(config(32)).expect("a small disk");
    disk.zone().set_limit(Some(FrameCount(33)));
    let mut expected = Vec::new();
    for page in 0..32 {
        write(&disk, page, &noise(page));
        expected.push(touch_with(&disk, page, noise(page), &noise(page + 99)[..512]));
    }
    assert_eq!((disk.stat().hot.hot_pages, disk.zone().stats().in_use.0), (32, 32));
    write(&disk, 40, &noise(40));
    for page in [41, 42] {
        let refused = disk.write(span(page * 4096, 4096), &noise(page));
        assert_eq!(refused, Err(BlockError::NoSpace { offset: page * 4096 }));
    }
    assert!(disk.zone().stats().in_use.0 <= 33);
    assert!((0..32).all(|page| read(&disk, page) == expected[page as usize]));
    disk.check().expect("sound");
    disk.discard(span(0, 4096)).expect("fine");
    write(&disk, 41, &noise(41));
    assert_eq!(read(&disk, 41), noise(41));
    disk.check().expect("sound");
}

/// frame compaction migrates hot pages like all others, and no byte changes.
#[test]
fn r020_hot_pages_move_when_frames_are_compacted() {
    for (movability, moves) in [(Movability::On, true), (Movability::Off, false)] {
        let disk = Zram::new(ZramConfig { movability, ..config(512) }).expect("a small disk");
        (0..512).for_each(|page| write(&disk, page, &noise(page)));
        (512..1024).for_each(|page| drop(touch(&disk, page, vec![0; 4096])));
        // Free frames low in the arena, hot pages high in it.
        disk.discard(span(0, 512 * 4096)).expect("fine");
        (512..1024)
            .filter(|page| page % 4 != 0)
            .for_each(|page| disk.discard(span(page * 4096, 4096)).expect("fine"));
        let report = disk.compact_frames(&Budget::unlimited());
        let migrated = disk.zone().vmstat().pgmigrate_success;
        assert_eq!(migrated > 0, moves, "{report:?}");
        disk.check().expect("sound");
        let mut expected = vec![0; 4096];
        expected[1024..1536].fill(b'#');
        assert!((512..1024).step_by(4).all(|page| read(&disk, page) == expected));
        assert_eq!(disk.stat().hot.hot_pages, 128);
        disk.check().expect("sound");
    }
}

/// A cache of size zero is no cache.
#[test]
fn a_cache_of_no_size_is_no_cache() {
    let disk = disk(0);
    touch(&disk, 0, vec![0; 4096]);
    assert_eq!(disk.stat().hot, zram::HotStat::default());
    disk.check().expect("sound");
}
