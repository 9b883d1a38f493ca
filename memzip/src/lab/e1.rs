//! E-1: object compaction after random discards. It measures how much of the memory held is
//! content, before and after.
//!
//! The gain depends on how well the pages compress: short objects share a zspage with many others.
//! So the experiment is repeated with all pages in the order of the corpus, and with those that
//! compress well, moderately and badly.

use std::ops::Range;

use anyhow::{Result, ensure};
use zram::{Budget, ChainRule};

use super::disk::Disk;
use super::free::Free;
use super::input::{Lab, timed};
use super::original;
use super::pages::Pages;
use super::rng::Rng;
use super::table::{Bound, Cell, Report, Table};
use crate::corpus::PAGE;

/// Percent of the pages that are discarded, and the goal for the share of content at the end, if
/// there is one.
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
    report
        .notes
        .push("free memory is MemFree of the machine; other programs change it, too".into());
    // All pages, then each kind of pages that is frequent enough.
    let mut again = 0;
    let all_kinds = measure_kind(lab, &lab.pages, "all pages", &mut report, &mut again)?;
    let mut sparsest = Vec::new();
    for (name, range) in PAGE_KINDS {
        match lab.pages.that_compress_to(
            lab.algorithm,
            &range,
            lab.pages.len() / MIN_PAGES_DIVISOR,
        )? {
            Some(pages) => {
                let cases = measure_kind(lab, &pages, name, &mut report, &mut again)?;
                sparsest.extend(accepted(cases).map(|case| (name, case)));
            }
            None => report.notes.push(format!("skipped, too few in the corpus: {name}")),
        }
    }
    original_goals(&mut report, sparsest.first());
    // The goals for the end apply to the default chain and rule only.
    if lab.chain == frames::MAX_CHAIN as u8 && lab.rule == ChainRule::LeastWaste {
        for ((percent, case), (_, goal)) in all_kinds.iter().zip(CASES) {
            if let Some(goal) = goal {
                let what = format!("end, {percent} % discarded");
                report.goal(what, Bound::AtLeast(goal), Cell::Share(case.end));
            }
        }
    }
    report.goal("objects a second run moves", Bound::AtMost(0.0), Cell::Count(again));
    Ok(report)
}

/// Runs all cases with one kind of pages and adds a table to the report.
fn measure_kind(
    lab: &Lab,
    pages: &Pages,
    name: &str,
    report: &mut Report,
    again: &mut u64,
) -> Result<Vec<(usize, Case)>> {
    let mut cases = Vec::new();
    for (percent, _) in CASES {
        let case = case(lab, pages, percent)?;
        report.verified_pages += case.verified as u64;
        *again += case.moved_again;
        cases.push((percent, case));
    }
    report.tables.push(table(name, pages, &cases));
    Ok(cases)
}

fn table(name: &str, pages: &Pages, cases: &[(usize, Case)]) -> Table {
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
    let kind = cases.first().map(|(_, case)| {
        format!(
            ", ratio {:.2}, {:.1} % of them raw, {} distinct ones",
            case.ratio,
            case.raw * 100.0,
            pages.distinct()
        )
    });
    let mut table = Table::new(
        format!("Stored bytes / bytes of the frames they take: {name}{}", kind.unwrap_or_default()),
        &columns,
    );
    let (start, end) = original::E1.ratios();
    let [free_start, free_end] = original::E1.free_kib.map(|kib| Cell::Bytes(kib << 10));
    let freed = Cell::Count(original::E1.frames_freed());
    let none = Cell::None;
    table.row(
        "original, swap after heavy use",
        [none, Cell::Share(start), Cell::Share(end), freed, none, none, none, free_start, free_end],
    );
    for (percent, case) in cases {
        table.row(format!("memzip, {percent} % discarded"), case.cells);
    }
    table
}

/// Returns the first case that is as sparse at the start as the original.
fn accepted(cases: Vec<(usize, Case)>) -> Option<(usize, Case)> {
    cases.into_iter().find(|(_, case)| case.start <= published().0)
}

/// Returns the original's start and end, rounded to a ten-thousandth as published.
fn published() -> (f64, f64) {
    let (start, end) = original::E1.ratios();
    ((start * 1e4).round() / 1e4, (end * 1e4).round() / 1e4)
}

/// Adds the goals against the original. In the first case that starts no denser than the
/// original, with pages that compress well as the original's did, the end must be no sparser.
fn original_goals(report: &mut Report, accepted: Option<&(&str, (usize, Case))>) {
    let (start, end) = published();
    let what = |moment: &str| match accepted {
        Some((name, (percent, _))) => {
            format!("{moment} of a case as sparse as the original: {name}, {percent} % discarded")
        }
        None => format!("{moment} of a case as sparse as the original: there was none"),
    };
    let cell = |value: fn(&Case) -> f64| {
        accepted.map_or(Cell::None, |(_, (_, case))| Cell::Share(value(case)))
    };
    report.goal(what("start"), Bound::AtMost(start), cell(|case| case.start));
    report.goal(what("end"), Bound::AtLeast(end), cell(|case| case.end));
}

fn case(lab: &Lab, pages: &Pages, percent: usize) -> Result<Case> {
    // Fill the disk and discard pages at random.
    let mut disk = Disk::filled(pages, lab.config())?;
    let (full, filled) = (disk.ratio(), disk.zram.stat().mm);
    let ratio = filled.orig_data_size as f64 / filled.compr_data_size.max(1) as f64;
    let raw = filled.huge_pages as f64 / pages.len() as f64;
    disk.discard_some(&mut Rng::new(lab.seed), pages.len(), percent)?;
    let (start, content, frames) =
        (disk.ratio(), disk.content(), Free::of_zone(disk.zram.zone()).in_use);
    // Compact once, measured.
    let before = sys::host::free_memory();
    let (done, seconds) = timed(|| disk.zram.compact(&Budget::unlimited()));
    let free = [before, sys::host::free_memory()];
    let end = disk.ratio();
    // Check that no content was lost, then count what a second run still moves.
    ensure!(disk.content() == content, "compaction changed how much is stored");
    let left = Free::of_zone(disk.zram.zone()).in_use;
    ensure!(
        frames - left == done.frames_freed,
        "{frames} frames became {left}, not {} less",
        done.frames_freed
    );
    let moved_again = disk.zram.compact(&Budget::unlimited()).objects_moved;
    let [free_start, free_end] = free.map(Cell::bytes);
    let cells = [
        Cell::Share(full),
        Cell::Share(start),
        Cell::Share(end),
        Cell::Count(done.frames_freed),
        Cell::Count(done.objects_moved),
        Cell::Seconds(seconds),
        Cell::Count(moved_again),
        free_start,
        free_end,
    ];
    Ok(Case { start, end, moved_again, ratio, raw, cells, verified: disk.verify()? })
}
