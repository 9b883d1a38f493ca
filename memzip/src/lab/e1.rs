//! E-1: object compaction after random discards: the share of content in memory before and after.
//!
//! The gain depends on how well the pages compress: short objects share a zspage with many others.
//! So the experiment is repeated with all pages in the order of the corpus, and with those that
//! compress well, moderately and badly.

use std::ops::Range;

use anyhow::{Result, ensure};
use fastrand::Rng;
use zram::{Budget, ChainRule};

use super::disk::Disk;
use super::free::Free;
use super::input::Lab;
use super::original;
use super::pages::Pages;
use super::table::{Bound, Cell, Report, Table};
use crate::corpus::PAGE;
use crate::durations::timed;

/// Percent of the pages that are discarded, and any goal for the share of content at the end.
const CASES: [(usize, Option<f64>); 5] =
    [(40, None), (50, Some(0.983)), (60, Some(0.983)), (75, Some(0.978)), (90, Some(0.965))];
/// Kinds of pages by compressed length. Units: bytes.
const PAGE_KINDS: [(&str, Range<usize>); 3] = [
    ("pages that compress to a quarter or less", 0..PAGE / 4 + 1),
    ("pages that compress to between a quarter and a half", PAGE / 4 + 1..PAGE / 2),
    ("pages that compress to half or more, or not at all", PAGE / 2..usize::MAX),
];
/// A kind is skipped if it has less than this part of all pages. Units: one part of all pages.
const MIN_PAGES_DIVISOR: usize = 64;

/// Result of one case.
struct Case {
    /// Percent of the pages that were discarded.
    percent: usize,
    start: f64,
    end: f64,
    moved_again: u64,
    /// Of the full disk: pages over stored bytes, and the share of pages stored uncompressed.
    ratio: f64,
    raw: f64,
    /// The row of the table.
    cells: [Cell; 9],
    verified: usize,
}

/// Runs all cases with all kinds of pages.
pub(super) fn run(lab: &Lab) -> Result<Report> {
    let mut report = lab.report("E-1", "object compaction after random discards");
    report.notes =
        vec!["free memory is MemFree of the machine; other programs change it, too".into()];
    let mut kinds = vec![("all pages", measure_kind(lab, &lab.pages, "all pages", &mut report)?)];
    for (name, range) in PAGE_KINDS {
        let least = lab.pages.len() / MIN_PAGES_DIVISOR;
        match lab.pages.that_compress_to(lab.config.algorithm, &range, least)? {
            Some(pages) => kinds.push((name, measure_kind(lab, &pages, name, &mut report)?)),
            None => report.notes.push(format!("skipped, too few in the corpus: {name}")),
        }
    }
    original_goals(&mut report, &kinds[1..]);
    // The goals for the end apply to the default chain and rule only.
    if lab.config.chain == frames::MAX_CHAIN as u8 && lab.config.rule == ChainRule::LeastWaste {
        for (case, (percent, goal)) in kinds[0].1.iter().zip(CASES) {
            if let Some(goal) = goal {
                let what = format!("end, {percent} % discarded");
                report.goal(what, Bound::AtLeast(goal), Cell::Share(case.end));
            }
        }
    }
    let again = kinds.iter().flat_map(|(_, cases)| cases).map(|case| case.moved_again).sum();
    report.goal("objects a second run moves", Bound::AtMost(0.0), Cell::Count(again));
    Ok(report)
}

/// Runs all cases with one kind of pages and adds a table to the report.
fn measure_kind(lab: &Lab, pages: &Pages, name: &str, report: &mut Report) -> Result<Vec<Case>> {
    let cases = CASES.iter().map(|(percent, _)| case(lab, pages, *percent));
    let cases = cases.collect::<Result<Vec<Case>>>()?;
    report.verified_pages += cases.iter().map(|case| case.verified as u64).sum::<u64>();
    report.tables.push(table(name, pages, &cases));
    Ok(cases)
}

fn table(name: &str, pages: &Pages, cases: &[Case]) -> Table {
    let columns = [
        "full",
        "start",
        "end",
        "frames|freed",
        "num_migrated|(objects)",
        "time",
        "moved by a|second run",
        "free memory|at the start",
        "free memory|at the end",
    ];
    let mut title = format!("Stored bytes / bytes of the frames they take: {name}");
    if let Some(Case { ratio, raw, .. }) = cases.first() {
        let (raw, distinct) = (raw * 100.0, pages.distinct());
        title += &format!(", ratio {ratio:.2}, {raw:.1} % of them raw, {distinct} distinct ones");
    }
    let mut table = Table::new(title, &columns);
    let [start, end] = original::e1_ratios().map(Cell::Share);
    let [free_start, free_end] = original::E1_FREE_KIB.map(|kib| Cell::Bytes(kib << 10));
    let (freed, none) = (Cell::Count(original::e1_frames_freed()), Cell::None);
    table.row(
        "original, swap after heavy use",
        [none, start, end, freed, none, none, none, free_start, free_end],
    );
    for case in cases {
        table.row(format!("memzip, {} % discarded", case.percent), case.cells);
    }
    table
}

/// Adds the goals against the original. In the first case that starts no denser than the
/// original, with pages that compress well as the original's did, the end must be no sparser.
fn original_goals(report: &mut Report, kinds: &[(&str, Vec<Case>)]) {
    // Rounded to a ten-thousandth as published.
    let [start, end] = original::e1_ratios().map(|ratio| (ratio * 1e4).round() / 1e4);
    let accepted = kinds.iter().find_map(|(name, cases)| {
        cases.iter().find(|case| case.start <= start).map(|case| (name, case))
    });
    let case = accepted.map_or("there was none".to_owned(), |(name, case)| {
        format!("{name}, {} % discarded", case.percent)
    });
    let what = |moment: &str| format!("{moment} of a case as sparse as the original: {case}");
    let cell =
        |value: fn(&Case) -> f64| accepted.map_or(Cell::None, |(_, case)| Cell::Share(value(case)));
    report.goal(what("start"), Bound::AtMost(start), cell(|case| case.start));
    report.goal(what("end"), Bound::AtLeast(end), cell(|case| case.end));
}

fn case(lab: &Lab, pages: &Pages, percent: usize) -> Result<Case> {
    // Fill the disk and discard pages at random.
    let mut disk = Disk::filled(pages, lab.config)?;
    let (full, filled) = (disk.ratio(), disk.zram.stat().mm);
    let ratio = filled.orig_data_size as f64 / filled.compr_data_size.max(1) as f64;
    let raw = filled.huge_pages as f64 / pages.len() as f64;
    disk.discard_some(&mut Rng::with_seed(lab.seed), pages.len(), percent)?;
    let (start, content, frames) =
        (disk.ratio(), disk.content(), Free::of_zone(disk.zram.zone()).in_use);
    // Compact once, measured.
    let before = sys::host::free_memory();
    let (done, time) = timed(|| disk.zram.compact(&Budget::unlimited()));
    let free = [before, sys::host::free_memory()];
    let end = disk.ratio();
    // Check that no content was lost, then count what a second run still moves.
    ensure!(disk.content() == content, "compaction changed how much is stored");
    let left = Free::of_zone(disk.zram.zone()).in_use;
    let freed = done.frames_freed;
    ensure!(frames - left == freed, "{frames} frames became {left}, not {freed} less");
    let moved_again = disk.zram.compact(&Budget::unlimited()).objects_moved;
    let [free_start, free_end] = free.map(Cell::bytes);
    let cells = [
        Cell::Share(full),
        Cell::Share(start),
        Cell::Share(end),
        Cell::Count(freed),
        Cell::Count(done.objects_moved),
        Cell::Seconds(time.as_secs_f64()),
        Cell::Count(moved_again),
        free_start,
        free_end,
    ];
    Ok(Case { percent, start, end, moved_again, ratio, raw, cells, verified: disk.verify()? })
}
