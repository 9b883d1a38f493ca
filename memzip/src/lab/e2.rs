//! E-2: both compactions on a disk that aged a little: random overwrites, then a few discards.

use anyhow::Result;
use fastrand::Rng;
use zram::Budget;

use super::disk::Disk;
use super::free::Free;
use super::input::Lab;
use super::original;
use super::table::{Bound, Cell, Report, Table};
use crate::durations::timed;

/// Number of overwrites for each page of the disk.
const OVERWRITES: usize = 2;
/// Percent of the pages that are discarded after the overwrites.
const DISCARD_PERCENT: usize = 3;

/// Statistics of the disk at one moment.
struct Snapshot {
    content: u64,
    used: u64,
    free: Free,
    /// Free memory of the machine. Units: bytes.
    machine: Option<u64>,
}

impl Snapshot {
    fn of(disk: &Disk<'_>) -> Self {
        let free = Free::of_zone(disk.zram.zone());
        let (content, used) = (disk.content(), disk.zram.stat().mm.mem_used_total);
        Self { content, used, free, machine: sys::host::free_memory() }
    }

    fn ratio(&self) -> f64 {
        self.content as f64 / self.used.max(1) as f64
    }
}

/// Runs the experiment.
pub(super) fn run(lab: &Lab) -> Result<Report> {
    let mut disk = Disk::filled(&lab.pages, lab.config)?;
    let (mut rng, len) = (Rng::with_seed(lab.seed), lab.pages.len());
    for _ in 0..OVERWRITES * len {
        let (at, page) = (rng.usize(..len), rng.usize(..len));
        disk.write(at, page)?;
    }
    disk.discard_some(&mut rng, len, DISCARD_PERCENT)?;
    // Run both compactions, with a snapshot around each.
    let before = Snapshot::of(&disk);
    let (objects, object_time) = timed(|| disk.zram.compact(&Budget::unlimited()));
    let compacted = Snapshot::of(&disk);
    let (frames, frame_time) = timed(|| disk.zram.compact_frames(&Budget::unlimited()));
    let packed = Snapshot::of(&disk);
    let verified = disk.verify()?;

    // Put the original's figures beside the measured ones.
    let moments = [&before, &compacted, &packed];
    let columns =
        ["original|before", "original|after", "memzip|before", "objects|moved", "frames|moved"];
    let mut sizes = Table::new("A disk that aged", &columns);
    let aged = original::E2;
    let kib = |sizes: [u64; 2]| sizes.map(|kib| Cell::Bytes(kib << 10));
    let cells = |theirs: [Cell; 2], ours: &dyn Fn(&Snapshot) -> Cell| {
        theirs.into_iter().chain(moments.map(ours)).collect::<Vec<_>>()
    };
    sizes.row("stored bytes", cells(kib(aged.used_kib), &|now| Cell::Bytes(now.content)));
    sizes.row("bytes of frames", cells(kib(aged.total_kib), &|now| Cell::Bytes(now.used)));
    let ratios = aged.ratios().map(Cell::Share);
    sizes.row("stored bytes / frames", cells(ratios, &|now| Cell::Share(now.ratio())));
    let free = cells(kib(aged.free_kib), &|now| Cell::bytes(now.machine));
    sizes.row("free memory of the machine", free);
    let mut moved = Table::new("What was moved", &["original", "memzip"]);
    let counts = [aged.migrated, objects.objects_moved].map(Cell::Count);
    moved.row("objects (num_migrated)", counts);
    moved.row("frames", [Cell::None, Cell::Count(frames.frames_moved)]);
    let seconds = [object_time, frame_time].map(|time| Cell::Seconds(time.as_secs_f64()));
    moved.row("time for objects", [Cell::None, seconds[0]]);
    moved.row("time for frames", [Cell::None, seconds[1]]);
    let mut blocks = Table::new("Free blocks by order", &columns);
    for order in 0..aged.blocks[0].len() {
        let theirs = aged.blocks.map(|blocks| Cell::Count(blocks[order]));
        let row = cells(theirs, &|now| Cell::Count(now.free.blocks[order]));
        blocks.row(format!("order {order}"), row);
    }
    let drift = Cell::Count(compacted.free.in_use.abs_diff(packed.free.in_use));
    let end = Cell::Share(packed.ratio());
    let mut report = lab.report("E-2", "a little ageing, then both compactions");
    report.tables = vec![sizes, moved, blocks];
    report.goal("stored bytes / frames at the end", Bound::AtLeast(0.975), end);
    report.goal("frames lost or invented by frame compaction", Bound::AtMost(0.0), drift);
    report.notes.push(format!(
        "Aged by {OVERWRITES} random overwrites a page, then {DISCARD_PERCENT} % of the pages discarded. The original's blocks are those of zone Normal."
    ));
    report.verified_pages = verified as u64;
    Ok(report)
}
