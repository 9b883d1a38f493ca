//! Contiguous allocation from memory in use, and blocks from fragmented memory.

#![cfg(not(loom))]
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "each test uses a part of it")]
mod driver;

use std::ops::Range;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use frames::{
    AllocError, Budget, Committed, ContigError, ContigRequest, FrameCount, LockedFrame,
    MigrateError, MigrateMode, MovableOps, Order, Owner, PAGEBLOCK_FRAMES, Pfn, Target, Zone,
};

use driver::zones::{quietly, take, take_block};
use driver::{Driver, Response, zone_of_blocks};

const BLOCK: u32 = PAGEBLOCK_FRAMES;

fn plain(blocks: u32) -> Arc<Zone> {
    zone_of_blocks(blocks, |_| {})
}

fn request() -> ContigRequest {
    ContigRequest::default()
}

fn range(first: u32, frames: u32) -> Range<Pfn> {
    Pfn(first)..Pfn(first + frames)
}

type Picture = (String, String, u64, u64);

/// Returns everything of a zone that a failed call must leave unchanged.
fn picture(zone: &Zone) -> Picture {
    zone.drain();
    let stats = zone.stats();
    (
        zone.buddyinfo().to_string(),
        zone.pagetypeinfo().to_string(),
        stats.in_use.0,
        stats.committed.0,
    )
}

/// Movable pages move out of a range that begins and ends inside of pageblocks. No page is lost.
#[test]
fn r109_a_range_in_use_is_cleared_and_allocated() {
    let zone = plain(8);
    let driver = Driver::new(&zone);
    let pages: Vec<_> = (0..3 * BLOCK).map(|_| driver.take().expect("room")).collect();
    let contig = zone.alloc_contig_range(range(100, 900), request()).expect("all of it can move");
    assert_eq!((contig.first(), contig.frames()), (Pfn(100), FrameCount(900)));
    driver.check();
    assert!(
        driver.places().iter().all(|pfn| !(100..1000).contains(&pfn.0)),
        "a page is in the range"
    );
    assert_eq!(zone.stats().in_use.0, u64::from(3 * BLOCK) + 900);
    assert!(zone.pagetypeinfo().to_string().contains("Isolate"));
    drop(contig);
    pages.into_iter().for_each(|tag| driver.release(tag));
    zone.trim();
    zone.check().expect("consistent");
    assert_eq!((zone.stats().in_use.0, zone.stats().committed.0), (0, 0));
}

#[test]
fn a_range_without_memory_is_allocated() {
    let zone = plain(16);
    drop(take_block(&zone, Order::MAX));
    zone.trim();
    let contig =
        zone.alloc_contig_range(range(BLOCK / 2, 9 * BLOCK), request()).expect("all of it is free");
    zone.check().expect("consistent");
    assert_eq!(zone.stats().committed.0, u64::from(10 * BLOCK));
    let mut frames = contig.into_frames();
    assert_eq!(frames.len() as u32, 9 * BLOCK);
    assert!(frames.windows(2).all(|pair| pair[0].pfn().0 + 1 == pair[1].pfn().0));
    frames.truncate(1);
    zone.trim();
    zone.check().expect("consistent");
    assert_eq!(zone.stats().committed.0, u64::from(BLOCK));
}

#[test]
fn invalid_ranges_are_refused() {
    let zone = plain(2);
    let refused = |range| zone.alloc_contig_range(range, request()).map(drop);
    assert!(matches!(refused(range(5, 0)), Err(ContigError::Range { .. })));
    assert!(matches!(refused(Pfn(9)..Pfn(3)), Err(ContigError::Range { .. })));
    assert!(matches!(refused(range(2 * BLOCK - 1, 2)), Err(ContigError::Range { .. })));
    assert!(matches!(refused(Pfn(0)..Pfn(u32::MAX)), Err(ContigError::Range { .. })));
    for count in [0, u64::from(2 * BLOCK) + 1, u64::MAX] {
        let refused = zone.alloc_contig_frames(FrameCount(count), request()).map(drop);
        assert!(matches!(refused, Err(ContigError::Range { .. })), "{count}: {refused:?}");
    }
    zone.check().expect("consistent");
}

/// Makes a call that must fail, and checks that the zone looks as in `before`.
fn fails_as(
    driver: &Driver,
    before: &Picture,
    range: Range<Pfn>,
    request: ContigRequest,
) -> ContigError {
    let result = quietly(|| driver.zone().alloc_contig_range(range, request).map(drop));
    let error = result.expect_err("it must fail");
    driver.check();
    assert_eq!(picture(driver.zone()), *before, "{error}");
    error
}

/// A failed call leaves free lists, types, memory and frames in use unchanged, however it fails
///
#[test]
fn r107_a_failed_call_leaves_the_zone_as_it_was() {
    let zone = zone_of_blocks(6, |config| config.keep_blocks = 0);
    // Every pageblock was used once: a first use cannot be undone.
    drop(zone.alloc_contig_range(range(0, 6 * BLOCK), request()).expect("all of it is free"));
    zone.trim();
    let driver = Driver::new(&zone);
    let pages: Vec<_> = (0..2 * BLOCK).map(|_| driver.take().expect("room")).collect();
    pages.iter().step_by(2).for_each(|&tag| driver.release(tag));
    zone.drain();
    let stone = take(&zone).expect("room");
    let all = || range(0, 5 * BLOCK);
    assert_eq!(
        fails_as(&driver, &picture(&zone), all(), request()),
        ContigError::Unmovable { pfn: stone.pfn() }
    );
    drop(stone);
    let before = picture(&zone);
    let fails = |range, request| fails_as(&driver, &before, range, request);
    let pinned = driver.pin(pages[1]);
    assert_eq!(fails(all(), request()), ContigError::Busy { pfn: pinned });
    driver.unpin_all();
    for response in [Response::Again, Response::Fails, Response::Panics] {
        driver.set_response(response);
        assert!(matches!(fails(all(), request()), ContigError::Busy { .. }), "{response:?}");
    }
    driver.set_response(Response::Move);
    let none = ContigRequest { budget: Budget::within(Duration::ZERO), ..request() };
    assert_eq!(fails(all(), none), ContigError::OutOfTime);
    zone.set_limit(Some(FrameCount(u64::from(BLOCK) + 100)));
    assert_eq!(fails(range(0, 101), request()), ContigError::Limit);
    drop(zone.alloc_contig_range(range(0, 100), request()).expect("just below the limit"));
    assert_eq!(zone.stats().in_use.0, u64::from(BLOCK));
}

/// A pageblock that became free while it was isolated is released to the OS, even if the call
/// fails in the end.
#[test]
fn a_pageblock_emptied_by_a_failed_call_is_released() {
    let zone = zone_of_blocks(4, |config| config.keep_blocks = 0);
    let driver = Driver::new(&zone);
    let pages = driver.fill();
    let kept = [3, BLOCK + 3].map(|at| pages[at as usize]);
    pages.iter().filter(|tag| !kept.contains(tag)).for_each(|&tag| driver.release(tag));
    zone.drain();
    zone.release_excess(Budget::unlimited());
    assert_eq!(zone.stats().committed.0, u64::from(2 * BLOCK));
    let pinned = driver.pin(kept[1]);
    assert_eq!(
        zone.alloc_contig_range(range(0, 2 * BLOCK), request()).map(drop),
        Err(ContigError::Busy { pfn: pinned })
    );
    assert!(driver.place(kept[0]).0 >= 2 * BLOCK, "the page was moved");
    assert_eq!(zone.stats().committed.0, u64::from(2 * BLOCK), "its old pageblock has no memory");
    driver.check();
}

/// no free frame is left to move content to.
#[test]
fn r027_a_full_zone_has_no_migration_targets() {
    let zone = plain(2);
    let driver = Driver::new(&zone);
    let pages = driver.fill();
    assert_eq!(
        zone.alloc_contig_range(range(0, 4), request()).map(drop),
        Err(ContigError::NoTargets)
    );
    zone.check().expect("consistent");
    // As many frames are free as the range has: it is cleared, and then the zone is full.
    pages.iter().rev().take(4).for_each(|&tag| driver.release(tag));
    let contig = zone.alloc_contig_range(range(0, 4), request()).expect("enough free frames");
    assert_eq!(take(&zone).map(drop), Err(AllocError::NoFrames));
    drop(contig);
    driver.check();
}

/// Another thread keeps the page lock of a frame: the request does not wait for it.
#[test]
fn a_frame_with_a_held_page_lock_is_busy() {
    let zone = plain(4);
    let driver = Driver::new(&zone);
    let pages: Vec<_> = (0..64).map(|_| driver.take().expect("room")).collect();
    let held = zone.get(driver.place(pages[7])).expect("in use");
    let lock = held.try_lock().expect("not locked");
    assert_eq!(
        zone.alloc_contig_range(range(0, 64), request()).map(drop),
        Err(ContigError::Busy { pfn: held.pfn() })
    );
    zone.check().expect("consistent");
    drop(lock);
    // A second reference keeps the frame in use after its content moved. Once it is put, the
    // range can be allocated.
    assert!(zone.alloc_contig_range(range(0, 64), request()).is_err());
    drop(held);
    assert!(zone.alloc_contig_range(range(0, 64), request()).is_ok());
    driver.check();
}

/// Long pins: while the hardware has the address of a page, its range is busy and another range
/// is found. Unpinning makes the page movable.
#[test]
fn r105_a_pinned_page_stays_until_it_is_unpinned() {
    let zone = plain(4);
    let driver = Driver::new(&zone);
    let pages = driver.fill();
    pages
        .iter()
        .enumerate()
        .filter(|(at, _)| at % 4 != 0)
        .for_each(|(_, &tag)| driver.release(tag));
    let kept: Vec<u32> = pages.iter().copied().step_by(4).collect();
    // A page in each pageblock but the third.
    let pins: Vec<Pfn> = [3, 200, 400].map(|at| driver.pin(kept[at])).to_vec();
    let contig = zone
        .alloc_contig_frames(FrameCount(BLOCK.into()), request())
        .expect("one pageblock has no pin");
    assert!(pins.iter().all(|pin| pin.0 / BLOCK != contig.first().0 / BLOCK));
    assert_eq!(
        driver.places().iter().filter(|place| pins.contains(place)).count(),
        3,
        "pinned pages did not move"
    );
    let second = || zone.alloc_contig_frames(FrameCount(BLOCK.into()), request());
    assert!(matches!(second().map(drop), Err(ContigError::Busy { .. })));
    driver.unpin_all();
    let second = second().expect("unpinned");
    driver.check();
    drop((contig, second));
    zone.check().expect("consistent");
}

/// An owner that pins its pages is asked to unpin them, and may do so. Only a request that may
/// sleep asks.
#[test]
fn r105_an_owner_may_unpin_on_request() {
    let zone = plain(4);
    let driver = Driver::new(&zone);
    let pages = driver.fill();
    let (second, rest): (Vec<u32>, _) =
        pages.into_iter().partition(|&tag| driver.place(tag).0 / BLOCK == 1);
    rest.iter().step_by(2).for_each(|&tag| driver.release(tag));
    second.iter().skip(2).for_each(|&tag| driver.release(tag));
    second[..2].iter().for_each(|&tag| _ = driver.pin(tag));
    let want = |mode| {
        zone.alloc_contig_range(Pfn(BLOCK)..Pfn(2 * BLOCK), ContigRequest { mode, ..request() })
            .map(drop)
    };
    assert!(matches!(want(MigrateMode::Sync), Err(ContigError::Busy { .. })), "it keeps its pins");
    driver.yield_pins();
    assert!(
        matches!(want(MigrateMode::SyncLight), Err(ContigError::Busy { .. })),
        "it is not asked"
    );
    want(MigrateMode::Sync).expect("it has unpinned both pages");
    driver.check();
    zone.check().expect("consistent");
}

/// Several threads request overlapping ranges: no frame is allocated twice.
#[test]
fn ranges_of_concurrent_requests_never_overlap() {
    let zone = plain(8);
    let driver = Driver::new(&zone);
    let _pages: Vec<_> = (0..2 * BLOCK).map(|_| driver.take().expect("room")).collect();
    std::thread::scope(|scope| {
        for seed in 0..3_u32 {
            let zone = &zone;
            scope.spawn(move || {
                for round in 0..if cfg!(miri) { 4 } else { 200 } {
                    let first = (seed * 397 + round * 131) % (4 * BLOCK);
                    let frames = 1 + (round * 53) % BLOCK;
                    let contig = zone.alloc_contig_range(range(first, frames), request());
                    if let Ok(contig) = &contig {
                        assert_eq!(contig.first(), Pfn(first));
                    }
                }
            });
        }
        let driver = &driver;
        scope.spawn(move || {
            for _ in 0..if cfg!(miri) { 4 } else { 2000 } {
                let tag = driver.take().expect("room");
                driver.release(tag);
            }
        });
    });
    driver.check();
    assert_eq!(zone.stats().in_use, driver.frames());
}

/// An owner that releases and allocates frames while a range is cleared.
#[derive(Debug)]
struct Restless {
    owner: Owner,
    has: Mutex<Vec<Pfn>>,
    got: Mutex<Vec<Pfn>>,
}

impl MovableOps for Restless {
    fn isolate(&self, frame: &LockedFrame<'_>) -> bool {
        self.has.lock().expect("no panic inside").contains(&frame.pfn())
    }

    fn migrate<'z>(
        &self,
        from: &LockedFrame<'_>,
        to: Target<'z>,
        _: MigrateMode,
    ) -> Result<Committed, MigrateError<'z>> {
        let committed = to.commit(from)?;
        let last = {
            let mut has = self.has.lock().expect("no panic inside");
            has.retain(|&own| own != from.pfn());
            // The highest one: it is in a pageblock that is cleared later.
            has.sort_unstable();
            has.pop()
        };
        last.into_iter().for_each(|pfn| self.owner.release(pfn));
        let fresh = take(self.owner.zone()).ok();
        self.got.lock().expect("no panic inside").extend(fresh.map(|frame| frame.pfn()));
        self.has.lock().expect("no panic inside").insert(0, committed.pfn());
        Ok(committed)
    }

    fn putback(&self, _: &LockedFrame<'_>) {}
}

/// callbacks may free and allocate. Frames that they free in a range that is being cleared
/// are not allocated, so the range can be cleared.
#[test]
fn r104_frames_freed_in_isolation_are_not_allocated() {
    let zone = plain(8);
    let owner = zone.reserve_owner().expect("the first");
    let restless = Arc::new(Restless { owner, has: Mutex::default(), got: Mutex::default() });
    let ops: Weak<dyn MovableOps> = Arc::downgrade(&restless) as _;
    restless.owner.publish(ops);
    for _ in 0..3 * BLOCK {
        let frame = take(&zone).expect("room");
        let pfn = restless.owner.set_movable(frame, 1, 0).expect("no other reference");
        restless.has.lock().expect("no panic inside").push(pfn);
    }
    let contig =
        zone.alloc_contig_range(range(0, 3 * BLOCK), request()).expect("all of it can move");
    let got = std::mem::take(&mut *restless.got.lock().expect("no panic inside"));
    assert!(got.len() as u32 > BLOCK && got.iter().all(|pfn| pfn.0 >= 3 * BLOCK), "{got:?}");
    zone.check().expect("consistent");
    drop(contig);
    zone.check().expect("consistent");
}
