//! The life of one disk, from the first write to the last discard, with memory failures in
//! between.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use balloon::{Balloon, BalloonConfig, BalloonUnit, OsHost, StopReason};
use block::BlockError;
use fastrand::Rng;
use frames::{FrameCount, MemoryFailureStats, Pfn};
use sys::Backing;

use crate::content::Kind;
use crate::disk::{Disk, HOT, PAGES, text};
use crate::kernel::{FailureMode, TestResult};

/// Hot pages.
const MARKED: Range<u64> = 0..HOT;
/// Pages of the other kinds.
const RAW: Range<u64> = HOT..2304;
const SAME: Range<u64> = 2304..2560;
const PATTERN: Range<u64> = 2560..2816;
const COMPRESSIBLE: Range<u64> = 2816..6656;
/// Pages written at the end, so that free frames that failed are allocated.
const SPARE: Range<u64> = 6656..PAGES;
/// Targets of the balloons, by unit. Units: frames.
const BALLOON: [(BalloonUnit, u64); 2] =
    [(BalloonUnit::Frames, 700), (BalloonUnit::BlocksFirst, 2048)];

/// Time between two failures.
const PAUSE: Duration = Duration::from_millis(4);

/// A scenario: the arena's backing and the kernel's way of notifying.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) backing: Backing,
    pub(crate) mode: FailureMode,
}

/// The frames of each kind of content.
struct FramesByContent {
    raw: BTreeSet<u32>,
    pattern: BTreeSet<u32>,
    compressed: BTreeSet<u32>,
    hot: BTreeSet<u32>,
    free: BTreeSet<u32>,
}

/// The frames that fail, by kind of content.
struct TargetFrames {
    raw: Vec<u32>,
    pattern: Vec<u32>,
    compressed: Vec<u32>,
    hot: Vec<u32>,
    free: Vec<u32>,
}

impl Scenario {
    /// Runs the scenario. Returns how many pages of memory the kernel lost.
    pub(crate) fn run(self) -> TestResult<u64> {
        // Fill a disk, let the kernel move frames, then let frames fail.
        self.mode.set()?;
        let mut disk = Disk::new(self.backing)?;
        let frames = fill(&mut disk)?;
        let moved = kernel_moves(&disk, &frames)?;
        let targets = TargetFrames::of(&frames, &disk);
        let failing = targets.in_use() + targets.free.len() as u64;
        let lost = self.fail(&disk, &targets)?;
        println!(
            "@@   {failing} frames fail, {} of them free: {} pages are lost, each an error",
            targets.free.len(),
            lost.len()
        );
        // Writers find half of the failed free frames; compaction and soft offlining find others.
        refill(&mut disk, &lost, targets.in_use() + targets.free.len() as u64 / 2)?;
        compact(&disk, &lost)?;
        let offline = offline(&disk, &lost)?;
        let known = failing + offline;
        refill(&mut disk, &lost, known)?;
        // Balloons, overwrites and discards must not lose further pages.
        balloon(&disk, &lost)?;
        heal(&mut disk, &lost)?;
        empty(&mut disk, known)?;
        println!("@@   {known} frames retired, {} reads verified", disk.verified());
        Ok(moved + failing)
    }

    /// Lets frames fail while another thread reads, then checks every page and the statistics.
    /// Returns the lost pages.
    fn fail(self, disk: &Disk, targets: &TargetFrames) -> TestResult<Vec<u64>> {
        let stop = AtomicBool::new(false);
        let before = disk.verified();
        let reported = thread::scope(|scope| {
            let reader = scope.spawn(|| read_until(disk, &stop));
            let injected = targets.fail(disk, self.mode);
            // Relaxed: the reader may stop a little later.
            stop.store(true, Ordering::Relaxed);
            let reported = reader.join().expect("the reader returns its errors")?;
            injected.map(|()| reported)
        })?;
        let read = disk.verified() - before;
        println!(
            "@@   meanwhile another thread read {read} pages as written and got {reported} errors"
        );
        // The kernel notifies the process at once in all modes but one.
        let (in_use, free) = (targets.in_use(), targets.free.len() as u64);
        if self.mode != FailureMode::OnAccess {
            expect_stats(disk, "notified at once", stats(in_use + free, free))?;
        }
        // Exactly the pages with bytes in a failed frame are lost.
        let lost = disk.lost(0..PAGES)?;
        let of =
            |range: Range<u64>| lost.iter().filter(|&number| range.contains(number)).count() as u64;
        expect("lost raw pages", of(RAW), targets.raw.len() as u64)?;
        expect("lost hot pages", of(MARKED), targets.hot.len() as u64)?;
        expect("lost pages without a frame", of(SAME) + of(SPARE), 0)?;
        let patterns = of(PATTERN);
        if targets.pattern.is_empty() || patterns == 0 || patterns == PATTERN.end - PATTERN.start {
            return Err(format!(
                "{patterns} pattern pages were lost with {} frames",
                targets.pattern.len()
            ));
        }
        // A frame holds parts of up to five of these pages, and each page lies in one or two
        // frames.
        let (compressed, frames) = (of(COMPRESSIBLE), targets.compressed.len() as u64);
        if compressed < frames / 2 || compressed > frames * 5 {
            return Err(format!("{compressed} compressed pages were lost with {frames} frames"));
        }
        expect("failed reads", disk.zram().stat().io.failed_reads, reported + lost.len() as u64)?;
        // Failed free frames are still untouched.
        let noted = if self.mode != FailureMode::OnAccess { free } else { 0 };
        expect_stats(disk, "after reading all", stats(in_use + noted, noted))?;
        disk.verify(&lost, "read again")?;
        Ok(lost)
    }
}

impl FramesByContent {
    fn in_use(&self) -> impl Iterator<Item = u32> {
        self.raw.iter().chain(&self.pattern).chain(&self.compressed).chain(&self.hot).copied()
    }
}

impl TargetFrames {
    fn of(frames: &FramesByContent, disk: &Disk) -> Self {
        let now = disk.frames();
        let some = |of: &BTreeSet<u32>, first, step| {
            of.iter().copied().skip(first).step_by(step).collect::<Vec<_>>()
        };
        let used = |of: &BTreeSet<u32>| of.intersection(&now).copied().collect();
        Self {
            raw: some(&used(&frames.raw), 3, 23),
            pattern: some(&used(&frames.pattern), 1, 9),
            compressed: some(&used(&frames.compressed), 5, 29),
            hot: some(&used(&frames.hot), 1, 9),
            free: some(&frames.free.difference(&now).copied().collect(), 2, 7),
        }
    }

    fn in_use(&self) -> u64 {
        (self.raw.len() + self.pattern.len() + self.compressed.len() + self.hot.len()) as u64
    }

    fn fail(&self, disk: &Disk, mode: FailureMode) -> TestResult<()> {
        let kinds = [&self.raw, &self.pattern, &self.compressed, &self.hot, &self.free];
        let mut all: Vec<u32> = kinds.into_iter().flatten().copied().collect();
        // Shuffle, so that the order differs from the reader's.
        Rng::with_seed(1).shuffle(&mut all);
        for frame in all {
            disk.fail(frame, mode)?;
            // Let the reader run, even on a machine with one CPU.
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// Writes pages of all kinds and discards some. Returns the frames that each kind took.
fn fill(disk: &mut Disk) -> TestResult<FramesByContent> {
    // The frames of a kind are those in use after its pages were written, and not before.
    let mut before = disk.frames();
    let mut since = |disk: &Disk| {
        let now = disk.frames();
        let new: BTreeSet<u32> = now.difference(&before).copied().collect();
        before = now;
        new
    };
    // Write the kinds one after the other.
    MARKED.into_iter().try_for_each(|number| disk.write(number, Kind::Compressible))?;
    MARKED.into_iter().try_for_each(|number| disk.mark(number).map_err(text))?;
    let hot = since(disk);
    expect("frames of hot pages", hot.len() as u64, HOT)?;
    RAW.into_iter().try_for_each(|number| disk.write(number, Kind::Raw))?;
    let raw = since(disk);
    expect("frames of raw pages", raw.len() as u64, RAW.end - RAW.start)?;
    SAME.into_iter().try_for_each(|number| disk.write(number, Kind::Same))?;
    expect("frames of same-filled pages", since(disk).len() as u64, 0)?;
    PATTERN.into_iter().try_for_each(|number| disk.write(number, Kind::Pattern))?;
    let pattern = since(disk);
    COMPRESSIBLE.into_iter().try_for_each(|number| disk.write(number, Kind::Compressible))?;
    let compressed = since(disk);
    // Discard some pages: this leaves free frames that were used, and holes for compaction.
    RAW.filter(|number| number % 8 == 3).try_for_each(|number| disk.discard(number))?;
    COMPRESSIBLE.filter(|number| number % 4 == 1).try_for_each(|number| disk.discard(number))?;
    let now = disk.frames();
    let free = raw.difference(&now).copied().collect();
    let [raw, pattern, compressed, hot] =
        [raw, pattern, compressed, hot].map(|kind| kind.intersection(&now).copied().collect());
    println!(
        "@@   {} pages written, {} discarded, {} frames in use",
        SPARE.start,
        (RAW.end - RAW.start) / 8 + (COMPRESSIBLE.end - COMPRESSIBLE.start) / 4,
        now.len()
    );
    disk.verify(&[], "written")?;
    Ok(FramesByContent { raw, pattern, compressed, hot, free })
}

/// Lets the kernel move the content of some frames. No page may change, and no failure be
/// reported.
fn kernel_moves(disk: &Disk, frames: &FramesByContent) -> TestResult<u64> {
    let chosen: Vec<u32> = frames.in_use().step_by(31).collect();
    chosen.iter().try_for_each(|&frame| disk.replace(frame))?;
    expect("reported failures", disk.zone().failure_reports(), 0)?;
    disk.verify(&[], "moved by the kernel")?;
    println!(
        "@@   {} frames moved by the kernel (MADV_SOFT_OFFLINE): nothing changes",
        chosen.len()
    );
    Ok(chosen.len() as u64)
}

/// Reads all written pages until `stop` is set. Returns the number of reads that failed.
fn read_until(disk: &Disk, stop: &AtomicBool) -> TestResult<u64> {
    let mut reported = 0;
    // Relaxed: see `Scenario::fail`.
    while !stop.load(Ordering::Relaxed) {
        for first in (0..SPARE.start).step_by(64) {
            reported +=
                disk.lost(first..first + 64).map_err(|error| format!("meanwhile: {error}"))?.len()
                    as u64;
        }
    }
    Ok(reported)
}

/// Compacts objects and frames, and verifies every page.
fn compact(disk: &Disk, lost: &[u64]) -> TestResult<()> {
    let (objects, frames) = disk.compact();
    disk.verify(lost, "compacted")?;
    if objects == 0 || frames == 0 {
        return Err(format!("compaction moved {objects} objects and {frames} frames"));
    }
    println!("@@   compaction moved {objects} objects and {frames} frames: no other page is lost");
    Ok(())
}

/// Takes readable frames out of use. Returns how many.
fn offline(disk: &Disk, lost: &[u64]) -> TestResult<u64> {
    let zone = disk.zone();
    let chosen: Vec<Pfn> = disk
        .frames()
        .into_iter()
        .map(Pfn)
        .filter(|&pfn| !zone.has_failed(pfn))
        .step_by(37)
        .collect();
    for &pfn in &chosen {
        zone.soft_offline(pfn).map_err(text)?;
        if zone.get(pfn).is_some() {
            return Err(format!("{pfn} is still in use after soft_offline"));
        }
    }
    disk.verify(lost, "after soft_offline")?;
    println!(
        "@@   {} frames retired by Zone::soft_offline after their content moved",
        chosen.len()
    );
    Ok(chosen.len() as u64)
}

/// Writes until `known` frames are known to have failed: a failed free frame is found when it is
/// allocated.
fn refill(disk: &mut Disk, lost: &[u64], known: u64) -> TestResult<()> {
    let total = |disk: &Disk| disk.zone().memory_failure_stats().total.0;
    let (before, mut written) = (total(disk), 0);
    // Each raw page allocates a frame, until all failed free frames have been found.
    for number in SPARE {
        if total(disk) >= known {
            break;
        }
        if !disk.is_written(number) {
            disk.write(number, Kind::Raw)?;
            written += 1;
        }
    }
    let found = total(disk);
    if found < known {
        return Err(format!("only {found} of {known} frames are known to have failed"));
    }
    disk.verify(lost, "refilled")?;
    if written > 0 {
        println!(
            "@@   {written} pages written, which detected {} failed free frames: no page is lost",
            found - before
        );
    }
    Ok(())
}

/// Inflates and deflates a balloon, with both compactions in between.
fn balloon(disk: &Disk, lost: &[u64]) -> TestResult<()> {
    for (unit, frames) in BALLOON {
        let config = BalloonConfig { unit, ..BalloonConfig::default() };
        let balloon =
            Balloon::new(Arc::clone(disk.zram().zone()), Arc::new(OsHost), config).map_err(text)?;
        // Inflate, compact beside the balloon, and deflate; verify after each step.
        let change = balloon.set_target(FrameCount(frames));
        if (change.stop, change.actual.0) != (StopReason::Reached, frames) {
            return Err(format!("a balloon of {frames} frames: {change:?}"));
        }
        disk.verify(lost, "with a balloon")?;
        disk.compact();
        disk.verify(lost, "compacted beside a balloon")?;
        if balloon.deflate().stop != StopReason::Reached {
            return Err("the balloon does not deflate".to_owned());
        }
        disk.verify(lost, "after a balloon")?;
    }
    println!(
        "@@   balloons of {} and {} frames were inflated and deflated: no other page is lost",
        BALLOON[0].1, BALLOON[1].1
    );
    Ok(())
}

/// Overwrites and discards the lost pages, after which no page is lost.
fn heal(disk: &mut Disk, lost: &[u64]) -> TestResult<()> {
    for &number in lost {
        match disk.mark(number) {
            Err(BlockError::Damaged { .. }) => {}
            other => return Err(format!("a write of a part of lost page {number}: {other:?}")),
        }
        if number % 2 == 0 {
            disk.write(number, Kind::Compressible)?;
        } else {
            disk.discard(number)?;
        }
    }
    disk.verify(&[], "overwritten and discarded")?;
    let delayed = disk.zone().memory_failure_stats().delayed.0;
    expect("failed frames in use after all their pages are gone", delayed, 0)?;
    let overwritten = lost.iter().filter(|&number| number % 2 == 0).count();
    println!(
        "@@   {overwritten} lost pages overwritten, {} discarded: no page is lost",
        lost.len() - overwritten
    );
    Ok(())
}

/// Discards all pages. Only the retired frames may then be missing.
fn empty(disk: &mut Disk, known: u64) -> TestResult<()> {
    (0..PAGES).try_for_each(|number| disk.discard(number))?;
    disk.zone().drain();
    disk.verify(&[], "empty")?;
    expect_stats(disk, "empty", stats(known, known))?;
    let zone = disk.zone().stats();
    expect("frames in use on an empty disk", zone.in_use.0, 0)?;
    expect("retired frames", zone.retired.0, known)
}

fn stats(total: u64, recovered: u64) -> MemoryFailureStats {
    let delayed = FrameCount(total - recovered);
    MemoryFailureStats { total: FrameCount(total), recovered: FrameCount(recovered), delayed }
}

fn expect_stats(disk: &Disk, when: &str, expected: MemoryFailureStats) -> TestResult<()> {
    match disk.zone().memory_failure_stats() {
        found if found == expected => Ok(()),
        found => Err(format!("{when}: {found:?}, not {expected:?}")),
    }
}

fn expect(what: &str, found: u64, expected: u64) -> TestResult<()> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found}, not {expected}")) }
}
