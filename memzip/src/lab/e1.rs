//! E-1: object compaction. The same random discards on the same pages, and how much of the memory held is content before and after.

use std::time::Instant;

use anyhow::{Result, ensure};
use zram::Budget;

use super::disk::Disk;
use super::free::Free;
use super::original;
use super::rng::Rng;
use super::table::{Cell, Goal, Reach, Report, Table};
use super::{Lab, setup};

/// Percent of the pages that are discarded, and the share of content to be reached at the end, where there is a goal.
const CASES: [(usize, Option<f64>); 5] =
    [(40, None), (50, Some(0.983)), (60, Some(0.983)), (75, Some(0.978)), (90, Some(0.965))];

/// What one case came to.
struct Case {
    full: f64,
    start: f64,
    end: f64,
    frames_freed: u64,
    objects_moved: u64,
    seconds: f64,
    moved_again: u64,
}

/// Runs all cases.
pub(super) fn run(lab: &Lab) -> Result<Report> {
    let (start, end) = original::E1.ratios();
    let columns = ["full", "start", "end", "frames|freed", "objects|moved", "time", "moved by a|second run"];
    let mut table = Table::new("Stored bytes / bytes of the frames they take", &columns);
    let freed = Cell::Count(original::E1.frames_freed());
    table.row(
        "original, swap after heavy use",
        [Cell::None, Cell::Share(start), Cell::Share(end), freed, Cell::None, Cell::None, Cell::None],
    );
    let (mut goals, mut again, mut verified) = (Vec::new(), 0, 0);
    for (percent, goal) in CASES {
        let (case, pages) = case(lab, percent)?;
        table.row(
            format!("memzip, {percent} % discarded"),
            [
                Cell::Share(case.full),
                Cell::Share(case.start),
                Cell::Share(case.end),
                Cell::Count(case.frames_freed),
                Cell::Count(case.objects_moved),
                Cell::Seconds(case.seconds),
                Cell::Count(case.moved_again),
            ],
        );
        goals.extend(
            goal.map(|goal| {
                Goal::new(format!("end, {percent} % discarded"), Reach::Least(goal), Cell::Share(case.end))
            }),
        );
        again += case.moved_again;
        verified += pages;
    }
    goals.push(Goal::new("objects a second run moves", Reach::Most(0.0), Cell::Count(again)));
    Ok(Report {
        experiment: "E-1",
        title: "object compaction after random discards",
        setup: setup(lab),
        tables: vec![table],
        goals,
        notes: Vec::new(),
        verified_pages: verified as u64,
    })
}

fn case(lab: &Lab, percent: usize) -> Result<(Case, usize)> {
    let mut disk = Disk::filled(&lab.pages, lab.config())?;
    let full = disk.ratio();
    Rng::new(lab.seed).choose(lab.pages.len(), percent).into_iter().try_for_each(|page| disk.discard(page))?;
    let (start, content, frames) = (disk.ratio(), disk.content(), Free::of_zone(disk.zram.zone()).in_use);
    let clock = Instant::now();
    let done = disk.zram.compact(&Budget::unlimited());
    let seconds = clock.elapsed().as_secs_f64();
    let end = disk.ratio();
    ensure!(disk.content() == content, "compaction changed how much is stored");
    let left = Free::of_zone(disk.zram.zone()).in_use;
    ensure!(frames - left == done.frames_freed, "{frames} frames became {left}, not {} less", done.frames_freed);
    let moved_again = disk.zram.compact(&Budget::unlimited()).objects_moved;
    let pages = disk.verify()?;
    let (frames_freed, objects_moved) = (done.frames_freed, done.objects_moved);
    Ok((Case { full, start, end, frames_freed, objects_moved, seconds, moved_again }, pages))
}
