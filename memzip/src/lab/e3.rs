//! E-3: frame compaction. Eight writers fill a disk in parallel in an arena with little memory to
//! spare, half of the content is deleted, and frames are moved together.
//!
//! A part of the content is also in a page cache in the same arena, whose frames can always move.
//! In *old*, as the kernel was before the original series, zspages are pinned among the frames of
//! the page cache. In *new* they move, too. Both repeat the same fill: the order of eight parallel
//! writers is recorded once. (The original's two fills were different.)

use anyhow::{Context, Result, ensure};
use block::Bytes;
use frames::FRAME_SIZE;
use zram::{Budget, Movability, ZramConfig};

use super::cache::PageCache;
use super::disk::Disk;
use super::free::{Free, ORDERS};
use super::input::Lab;
use super::original::{E3_NEW, E3_OLD};
use super::table::{Bound, Cell, Report, Table};
use super::writers::Recording;
use crate::durations::timed;

/// Number of files and writers.
const FILES: usize = 8;
/// Length of a write. Units: pages.
const PAGES_PER_WRITE: usize = 16;
/// Interval of the written pages that are also in the page cache. It is odd, so that both variants
/// delete half of the cached pages.
const CACHED: usize = 5;
/// Size of the arena relative to the most that was used. Units: percent.
const ARENA_PERCENT: u64 = 110;

/// The deleted half of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delete {
    /// Files 1, 3, 5 and 7.
    Files,
    /// Every second page of all files.
    Pages,
}

/// The compactions that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compact {
    Frames,
    ObjectsThenFrames,
}

/// Result of one run, from the fill to the end.
struct Run {
    init: Free,
    after: Free,
    frames_moved: u64,
    /// Stored bytes over bytes of frames, before and after compaction.
    ratios: (f64, f64),
    /// The part of `frames_moved` that belongs to the page cache.
    cache_moved: u64,
    objects_moved: u64,
    seconds: f64,
    /// Growth of the process's memory over the memory of frames in use.
    resident: Option<f64>,
    /// Difference between expected and actual frames in use at the end.
    drift: u64,
    verified: usize,
}

/// Runs all variants.
pub(super) fn run(lab: &Lab) -> Result<Report> {
    let (recording, arena) = first_fill(lab)?;
    let mut report = lab.report("E-3", "frame compaction after eight parallel writers");
    report.notes = vec![
        "old: zspages are pinned and frames of the page cache move, as before the series; new: both move. The original's blocks are those of zone DMA32.".into(),
        "old and new repeat the same recorded fill".into(),
    ];
    let frames = arena.0 / FRAME_SIZE as u64;
    let size = format!("{ARENA_PERCENT} % of the most a first fill took, {frames} frames");
    report.setup.push(("arena", size));
    let cached = format!("one of {CACHED} pages written, until it is deleted");
    report.setup.push(("page cache", cached));
    for (delete, deleted) in
        [(Delete::Files, "files 1 3 5 7 deleted"), (Delete::Pages, "every second page deleted")]
    {
        for (compact, moved) in [
            (Compact::Frames, "frames moved"),
            (Compact::ObjectsThenFrames, "objects moved, then frames"),
        ] {
            let run = |zspages| run_variant(lab, &recording, arena, zspages, delete, compact);
            let (old, new) = (run(Movability::Off)?, run(Movability::On)?);
            let name = format!("{deleted}; {moved}");
            goals(&mut report, &name, &old, &new);
            report.tables.push(table(&name, delete, &old, &new));
            report.verified_pages += (old.verified + new.verified) as u64;
        }
    }
    Ok(report)
}

/// Fills a disk once. Returns the order of the writes, and the size of the arena: the most that the
/// fill used and the page cache, times [`ARENA_PERCENT`].
fn first_fill(lab: &Lab) -> Result<(Recording, Bytes)> {
    let disk = Disk::new(&lab.pages, lab.config)?;
    let recording = Recording::of_a_fill(&disk, FILES, PAGES_PER_WRITE)?;
    let cached = (lab.pages.len().div_ceil(CACHED) * FRAME_SIZE) as u64;
    Ok((recording, Bytes((disk.zram.stat().mm.mem_used_max + cached) * ARENA_PERCENT / 100)))
}

fn run_variant(
    lab: &Lab,
    recording: &Recording,
    arena: Bytes,
    zspages: Movability,
    delete: Delete,
    compact: Compact,
) -> Result<Run> {
    let resident = sys::rss::resident_bytes();
    // Repeat the recorded fill on a disk and a page cache in one arena.
    let config = ZramConfig { arena: Some(arena), zspages, ..lab.config };
    let mut disk = Disk::new(&lab.pages, config)?;
    let mut cache = PageCache::new(disk.zram.zone(), &lab.pages)?;
    let replay = recording.replay(&mut disk, |run| {
        run.filter(|page| page.is_multiple_of(CACHED)).try_for_each(|page| cache.insert(page))
    });
    replay.context("the recorded fill does not fit into the arena")?;
    // Delete half of the content.
    let each = lab.pages.len() / FILES;
    let is_deleted = |page: usize| match delete {
        Delete::Files => (page / each).is_multiple_of(2),
        Delete::Pages => !page.is_multiple_of(2),
    };
    (0..each * FILES).filter(|&page| is_deleted(page)).try_for_each(|page| {
        cache.remove(page);
        disk.discard(page)
    })?;

    // Compact, measured.
    let zone = disk.zram.zone();
    let (init, start) = (Free::of_zone(zone), disk.ratio());
    let ((objects, frames), time) = timed(|| {
        let objects = match compact {
            Compact::ObjectsThenFrames => disk.zram.compact(&Budget::unlimited()),
            Compact::Frames => zram::Compaction::default(),
        };
        (objects, disk.zram.compact_frames(&Budget::unlimited()))
    });
    let after = Free::of_zone(zone);
    // Check that no frame was lost, and compare all remaining content.
    let grown =
        sys::rss::resident_bytes().zip(resident).map(|(now, before)| now.saturating_sub(before));
    let expected = init.in_use - objects.frames_freed;
    let [had, has] = [&init, &after].map(|free| free.frames() + free.in_use);
    ensure!(had == has, "the arena had {had} frames and has {has}");
    let cache_moved = cache.moved();
    cache.verify_and_clear()?;
    // Its records are charged to the zone, and `disk.verify` below accounts for all of the zone.
    drop(cache);
    let in_use = (after.in_use * FRAME_SIZE as u64).max(1) as f64;
    Ok(Run {
        cache_moved,
        ratios: (start, disk.ratio()),
        drift: after.in_use.abs_diff(expected),
        frames_moved: frames.frames_moved,
        objects_moved: objects.objects_moved,
        seconds: time.as_secs_f64(),
        resident: grown.map(|grown| grown as f64 / in_use),
        verified: disk.verify()?,
        init,
        after,
    })
}

fn goals(report: &mut Report, name: &str, old: &Run, new: &Run) {
    let share = |run: &Run, order| run.after.share_from(order).unwrap_or(0.0);
    let behind = (4..ORDERS - 1).filter(|&order| share(new, order) <= share(old, order)).count();
    let large = Cell::share(new.after.share_from(9));
    let resident = new.resident.map_or(Cell::None, Cell::Times);
    let what = format!("free memory in blocks of order >= 9: {name}");
    report.goal(what, Bound::AtLeast(0.99), large);
    let what = format!("memory of the process / frames in use: {name}");
    report.goal(what, Bound::AtMost(1.05), resident);
    for (what, count) in [
        ("orders from 4 to 9 in which old has as much", behind as u64),
        ("frames lost or invented", old.drift + new.drift),
        ("frames in use at the start, old against new", old.init.in_use.abs_diff(new.init.in_use)),
        ("frames of zspages moved in old", old.frames_moved.abs_diff(old.cache_moved)),
    ] {
        report.goal(format!("{what}: {name}"), Bound::AtMost(0.0), Cell::Count(count));
    }
}

fn table(name: &str, delete: Delete, old: &Run, new: &Run) -> Table {
    let columns = [
        "original|old|init",
        "original|old|after",
        "original|new|init",
        "original|new|after",
        "memzip|old|init",
        "memzip|old|after",
        "memzip|new|init",
        "memzip|new|after",
    ];
    let mut table = Table::new(name, &columns);
    // The original deleted files and had no second variant.
    let original = |moment: Free| (delete == Delete::Files).then_some(moment);
    // Free memory at all eight moments, in the order of the columns.
    let published = [E3_OLD, E3_NEW].concat().into_iter().map(original);
    let measured = [old.init, old.after, new.init, new.after].map(Some);
    let moments: Vec<Option<Free>> = published.chain(measured).collect();
    let mut ratios = Vec::new();
    let mut row = |what: String, cell: &dyn Fn(&Free) -> Cell| {
        let cells: Vec<Cell> =
            moments.iter().map(|moment| moment.as_ref().map_or(Cell::None, cell)).collect();
        table.row(what, cells);
    };
    for order in [4, 5, 6, 9] {
        row(format!("free memory in order >= {order}"), &|free| {
            Cell::share(free.share_from(order))
        });
    }
    // The factor by which new has more free memory in large blocks.
    let ratio = |old: &Free, new: &Free, order| {
        let shares = old.share_from(order).zip(new.share_from(order)).filter(|(old, _)| *old > 0.0);
        shares.map_or(Cell::None, |(old, new)| Cell::Times(new / old))
    };
    for order in [5, 6] {
        let mut cells = [Cell::None; 8];
        if delete == Delete::Files {
            cells[3] = ratio(&E3_OLD[1], &E3_NEW[1], order);
        }
        cells[7] = ratio(&old.after, &new.after, order);
        ratios.push((format!("order >= {order}, new against old"), cells));
    }
    row("highest order free".into(), &|free| {
        free.highest().map_or(Cell::None, |order| Cell::Count(order as u64))
    });
    row("free frames".into(), &|free| Cell::Count(free.frames()));
    row("frames in use".into(), &|free| {
        if free.in_use == 0 { Cell::None } else { Cell::Count(free.in_use) }
    });
    for order in 0..ORDERS {
        row(format!("free blocks of order {order}"), &|free| Cell::Count(free.blocks[order]));
    }
    ratios.into_iter().for_each(|(what, cells)| table.row(what, cells));
    // Rows without figures of the original.
    let ours = |cells: [Cell; 4]| [[Cell::None; 4], cells].concat();
    let after = |cell: &dyn Fn(&Run) -> Cell| ours([Cell::None, cell(old), Cell::None, cell(new)]);
    table.row("objects moved (num_migrated)", after(&|run| Cell::Count(run.objects_moved)));
    table.row("frames moved", after(&|run| Cell::Count(run.frames_moved)));
    table.row("of these of the page cache", after(&|run| Cell::Count(run.cache_moved)));
    let ratios = [old.ratios.0, old.ratios.1, new.ratios.0, new.ratios.1];
    table.row("stored bytes / frames (frag ratio)", ours(ratios.map(Cell::Share)));
    table.row("time", after(&|run| Cell::Seconds(run.seconds)));
    let resident = after(&|run| run.resident.map_or(Cell::None, Cell::Times));
    table.row("memory of the process / frames in use", resident);
    table
}
