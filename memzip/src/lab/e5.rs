//! E-5: contiguous allocation, the purpose of the original series. A zone is full of zspages, some
//! pages are discarded, and blocks of contiguous frames are allocated: first while free memory
//! suffices, though scattered, then below that point, where nothing is promised. The experiment
//! also measures how much of a region set aside for contiguous allocation the store can use before
//! the region is taken.

use std::time::Duration;

use anyhow::{Context, Result};
use block::Bytes;
use fastrand::Rng;
use frames::{ContigError, ContigRequest, FRAME_SIZE, Order, Pfn, Zone};
use zram::{Budget, Movability, ZramConfig};

use super::disk::Disk;
use super::free::Free;
use super::input::Lab;
use super::scarce::{self, Scarce};
use super::table::{Bound, Cell, Report, Table};
use crate::durations::timed;

/// Orders of the allocated blocks.
const ORDERS: [u8; 3] = [2, 3, 9];
/// Size of the arena relative to the memory that all pages together take. Units: percent.
const ARENA_PERCENT: u64 = 80;
/// Percent of the pages that are discarded once the zone is full.
const DISCARD_PERCENT: usize = 30;
/// Maximum number of allocations for each order.
const ATTEMPTS: u64 = 1000;
/// Divisor of the arena's size that gives the size of the region.
const REGION: u64 = 4;
/// Percent of the pages that are discarded before the region is taken.
const FREED_PERCENT: usize = 50;

/// Result for one order in one zone.
struct Blocks {
    free: Free,
    attempts: u64,
    successes: u64,
    moved: u64,
    time: Duration,
    /// Results below the point where a block is promised.
    scarce: Scarce,
    verified: usize,
}

/// Result for the region in one zone.
struct Region {
    frames: u64,
    used: u64,
    stored: u64,
    /// Reason why the region could not be taken.
    refused: Option<ContigError>,
    moved: u64,
    time: Duration,
    verified: usize,
}

/// Runs the experiment.
pub(super) fn run(lab: &Lab) -> Result<Report> {
    let arena = arena(lab)?;
    let columns = ["original", "memzip|off", "memzip|on"];
    let title = "Blocks of contiguous frames, requested while enough memory is free";
    let mut table = Table::new(title, &columns);
    let mut report = lab.report("E-5", "contiguous frames among scattered zspages");
    report.notes = vec![
        format!("off: frames cannot move; on: they can. The zone was full, then {DISCARD_PERCENT} % of the pages were discarded at random."),
        "A block is promised while twice its frames and the lowest watermark are free. The original motivated the series with this and published no figures."
            .into(),
        "Below the promise: single frames were allocated until fewer are free. Where a request is refused, random pages are evicted until it succeeds.".into(),
    ];
    for order in ORDERS.map(Order::new).into_iter().flatten() {
        let on = blocks(lab, arena, Movability::On, order, ATTEMPTS)?;
        // As many attempts: refused ones take no memory and would never end.
        let off = blocks(lab, arena, Movability::Off, order, on.attempts)?;
        let mut row = |what: &str, cell: &dyn Fn(&Blocks) -> Cell| {
            table.row(format!("{order}: {what}"), [Cell::None, cell(&off), cell(&on)]);
        };
        row("free frames", &|run| Cell::Count(run.free.frames()));
        row("of these in blocks that are large enough", &|run| {
            Cell::share(run.free.share_from(order.get().into()))
        });
        row("attempts", &|run| Cell::Count(run.attempts));
        row("success", &|run| Cell::share(rate(run)));
        row("frames moved", &|run| Cell::Count(run.moved));
        row("time for all", &|run| Cell::Seconds(run.time.as_secs_f64()));
        row("pages evicted for each block", &|run| {
            if run.successes > 0 { Cell::Count(0) } else { Cell::None }
        });
        row("free frames below the promise", &|run| Cell::Count(run.scarce.free));
        row("attempts below the promise", &|_| Cell::Count(scarce::BLOCKS));
        row("success below the promise, nothing evicted", &|run| {
            Cell::Share(run.scarce.at_once as f64 / scarce::BLOCKS as f64)
        });
        row("blocks allocated below the promise", &|run| Cell::Count(run.scarce.successes));
        row("pages evicted below the promise for each block", &|run| {
            let Scarce { evicted, successes, .. } = run.scarce;
            if successes > 0 { Cell::Mean(evicted as f64 / successes as f64) } else { Cell::None }
        });
        if let Some(rate) = rate(&on) {
            report.goal(format!("{order}: success"), Bound::AtLeast(1.0), Cell::Share(rate));
        } else {
            let note = "does not fit: choose a larger --size.";
            report.notes.push(format!("At this size a block of {order} {note}"));
        }
        report.verified_pages += (off.verified + on.verified) as u64;
    }
    // The region, in both zones.
    let mut regions = Table::new("A region set aside for contiguous allocation", &columns);
    let (off, on) = (region(lab, arena, Movability::Off)?, region(lab, arena, Movability::On)?);
    let mut row = |what: &str, cell: &dyn Fn(&Region) -> Cell| {
        regions.row(what, [Cell::None, cell(&off), cell(&on)]);
    };
    row("frames of the region", &|run| Cell::Count(run.frames));
    row("of these in use when the store is full", &|run| {
        Cell::Share(run.used as f64 / run.frames as f64)
    });
    row("pages stored when it is full", &|run| Cell::Count(run.stored));
    row(&format!("the whole region could be taken, {FREED_PERCENT} % discarded"), &|run| {
        Cell::Count(run.refused.is_none().into())
    });
    row("frames moved for that", &|run| Cell::Count(run.moved));
    row("time for that", &|run| Cell::Seconds(run.time.as_secs_f64()));
    let unused = Cell::Count(on.frames - on.used);
    let what = "frames of the region left unused when the store is full";
    report.goal(what, Bound::AtMost(0.0), unused);
    let taken = Cell::Count(on.refused.is_none().into());
    report.goal("the whole region could be taken back", Bound::AtLeast(1.0), taken);
    if let Some(error) = on.refused {
        let note = "The region could not be taken although frames can move";
        report.notes.push(format!("{note}: {error}."));
    }
    let frames = arena.0 / FRAME_SIZE as u64;
    let arena = format!("{ARENA_PERCENT} % of what the pages take, {frames} frames");
    report.setup.push(("arena", arena));
    report.tables = vec![table, regions];
    report.verified_pages += (off.verified + on.verified) as u64;
    Ok(report)
}

fn rate(run: &Blocks) -> Option<f64> {
    (run.attempts > 0).then(|| run.successes as f64 / run.attempts as f64)
}

/// Returns the size of an arena that the pages overflow.
fn arena(lab: &Lab) -> Result<Bytes> {
    let disk = Disk::filled(&lab.pages, lab.config)?;
    Ok(Bytes(disk.zram.stat().mm.mem_used_total * ARENA_PERCENT / 100))
}

fn blocks(
    lab: &Lab,
    arena: Bytes,
    movability: Movability,
    order: Order,
    max: u64,
) -> Result<Blocks> {
    // Fill the arena and discard pages at random, so that free frames are scattered.
    let config = ZramConfig { arena: Some(arena), movability, ..lab.config };
    let mut disk = Disk::new(&lab.pages, config)?;
    let stored = disk.fill_until_full()?;
    disk.discard_some(&mut Rng::with_seed(lab.seed), stored, DISCARD_PERCENT)?;
    let zone = disk.zram.zone();
    let (free, before) = (Free::of_zone(zone), zone.vmstat().pgmigrate_success);
    // Allocate blocks while enough memory is free, measured.
    let ((attempts, held), time) = timed(|| ask(zone, order, max));
    let moved = zone.vmstat().pgmigrate_success - before;
    // Compare while the blocks are held: moving must not have changed any content.
    disk.compare()?;
    let successes = held.len() as u64;
    drop(held);
    // Then below that point.
    let scarce = scarce::measure(&mut disk, stored, order, lab.seed)?;
    Ok(Blocks { free, attempts, successes, moved, time, scarce, verified: disk.verify()? })
}

/// Allocates at most `max` blocks, as long as enough memory is free for one and for the moves.
/// Returns the number of attempts and the blocks.
fn ask(zone: &Zone, order: Order, max: u64) -> (u64, Vec<frames::Block<'_>>) {
    let (mut attempts, mut held) = (0, Vec::new());
    while attempts < max && scarce::free_frames(zone) >= scarce::free_frames_needed(zone, order) {
        attempts += 1;
        held.extend(scarce::ask(zone, order));
    }
    (attempts, held)
}

fn region(lab: &Lab, arena: Bytes, movability: Movability) -> Result<Region> {
    // Fill an arena that has a region, and count the frames of the region that the store uses.
    let contiguous = Some(Bytes(arena.0 / REGION));
    let config = ZramConfig { arena: Some(arena), contiguous, movability, ..lab.config };
    let mut disk = Disk::new(&lab.pages, config)?;
    let stored = disk.fill_until_full()?;
    let region = disk.zram.contiguous().context("the device has no contiguous region")?;
    let zone = disk.zram.zone();
    let range = region.first.0..region.first.0 + u32::try_from(region.frames.0)?;
    let used = range.clone().filter(|&pfn| zone.get(Pfn(pfn)).is_some()).count() as u64;
    // Discard pages and compact, so that the content of the region fits elsewhere.
    disk.discard_some(&mut Rng::with_seed(lab.seed), stored, FREED_PERCENT)?;
    disk.zram.compact(&Budget::unlimited());
    let zone = disk.zram.zone();
    // Take the whole region, measured.
    let before = zone.vmstat().pgmigrate_success;
    let whole = Pfn(range.start)..Pfn(range.end);
    let (taken, time) = timed(|| zone.alloc_contig_range(whole, ContigRequest::default()));
    let moved = zone.vmstat().pgmigrate_success - before;
    disk.compare()?;
    let (frames, stored, refused) = (region.frames.0, stored as u64, taken.err());
    let verified = disk.verify()?;
    Ok(Region { frames, used, stored, refused, moved, time, verified })
}
