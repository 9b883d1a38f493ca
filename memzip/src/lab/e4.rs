//! E-4: the cost of movable objects. It compares access through a handle with access to the same
//! bytes at a known address, metadata with the frames it describes, and measures the longest hold
//! of a class lock, which bounds the wait of another thread.
//!
//! Times are CPU time of this thread, which reduces the influence of other programs.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use frames::{CompactRequest, FrameCount, Zone, ZoneConfig};
use sys::host::thread_cpu_time;
use zcomp::Stream;
use zram::{Budget, ZramConfig};
use zsmalloc::{Handle, HoldTimes, Pool, PoolConfig};

use super::choice;
use super::input::Lab;
use super::table::{Bound, Cell, Report, Table};
use crate::corpus::PAGE;

/// Number of measurements; medians are shown.
const ROUNDS: usize = 5;
/// Percent of the objects that are freed before compaction.
const FREED_PERCENT: usize = 50;
/// Upper bound for a swap-in or swap-out with handles relative to one without; the original series
/// called the difference marginal.
const MAX_INDIRECTION_RATIO: f64 = 1.15;
/// Upper bound for zspage records relative to the frames they describe.
const MAX_METADATA_SHARE: f64 = 0.01;
/// Upper bound for a hold of a class lock. Units: seconds.
const MAX_HOLD_TIME: f64 = 1e-3;

/// The stored form of all pages, one after the other, for access without handles.
struct Blobs {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// Samples of the time for each object, with handles and without. Units: seconds.
#[derive(Default)]
struct Pair {
    with: Vec<f64>,
    without: Vec<f64>,
}

/// Runs the experiment.
pub(super) fn run(lab: &Lab) -> Result<Report> {
    let blobs = Blobs::of(lab)?;
    let mut report = lab.report("E-4", "what it costs that objects can move");
    report.notes = vec![
        "without: the same bytes one after the other in one buffer, at known addresses".into(),
        "the original series calls the cost of its handles marginal, without figures".into(),
    ];
    indirection(lab, &blobs, &mut report)?;
    metadata(lab, &blobs, &mut report)?;
    holds(lab, &blobs, &mut report)?;
    Ok(report)
}

impl Blobs {
    fn of(lab: &Lab) -> Result<Self> {
        let largest = pool_of(lab, 1, HoldTimes::Off)?.largest_with_header();
        let mut stream = Stream::new(lab.config.algorithm)?;
        let mut blobs = Self { bytes: Vec::new(), ends: vec![0] };
        for number in 0..lab.pages.len() {
            let page: &[u8; PAGE] = lab.pages.get(number).try_into()?;
            let blob = stream.compress(page)?;
            blobs.bytes.extend_from_slice(if blob.len() > largest { page } else { blob });
            blobs.ends.push(blobs.bytes.len());
        }
        Ok(blobs)
    }

    fn len(&self) -> usize {
        self.ends.len() - 1
    }

    fn get(&self, number: usize) -> &[u8] {
        &self.bytes[self.ends[number]..self.ends[number + 1]]
    }

    /// Stores all blobs in a new pool; returns it and the handles.
    fn stored(&self, lab: &Lab) -> Result<(Arc<Pool>, Vec<Handle>)> {
        let pool = pool_of(lab, self.len(), HoldTimes::Off)?;
        let handles = (0..self.len()).map(|number| pool.store(self.get(number)));
        let handles = handles.collect::<Result<_, _>>()?;
        Ok((pool, handles))
    }
}

fn pool_of(lab: &Lab, pages: usize, hold_times: HoldTimes) -> Result<Arc<Pool>> {
    let capacity = FrameCount(pages as u64 + pages as u64 / 16 + 8192);
    let zone = Zone::new(ZoneConfig { capacity, ..ZoneConfig::default() });
    let ZramConfig { chain, rule, .. } = lab.config;
    let config = PoolConfig { chain, rule, hold_times, ..PoolConfig::default() };
    Ok(Pool::new(Arc::new(zone.context("cannot make a zone")?), config)?)
}

/// Runs `work` with each item and returns the CPU time of one. Units: seconds.
fn each(order: &[usize], work: impl FnMut(usize) -> Result<()>) -> Result<f64> {
    let start = thread_cpu_time();
    order.iter().copied().try_for_each(work)?;
    Ok((thread_cpu_time() - start).as_secs_f64() / order.len().max(1) as f64)
}

/// Measures access with and without handles, in random order: CPU caches favour neither side.
fn indirection(lab: &Lab, blobs: &Blobs, report: &mut Report) -> Result<()> {
    let (pool, mut handles) = blobs.stored(lab)?;
    let (mut map, mut copy, mut swap_in, mut swap_out) = <(Pair, Pair, Pair, Pair)>::default();
    let (mut page, mut stream) = ([0; PAGE], Stream::new(lab.config.algorithm)?);
    let len = blobs.len();
    // Without handles pages are swapped out to slots of one page each.
    let mut slots = vec![0u8; len * PAGE];
    for turn in 0..ROUNDS as u64 {
        let order = choice::permutation(&mut Rng::with_seed(lab.seed.wrapping_add(turn)), len);
        map.with.push(each(&order, |at| {
            black_box(pool.read(handles[at])?.pieces().0.first());
            Ok(())
        })?);
        map.without.push(each(&order, |at| {
            black_box(blobs.get(at).first());
            Ok(())
        })?);
        copy.with.push(each(&order, |at| {
            let object = pool.read(handles[at])?;
            let (head, tail) = object.pieces();
            page[..head.len()].copy_from_slice(head);
            page[head.len()..object.len()].copy_from_slice(tail);
            black_box(&page);
            Ok(())
        })?);
        copy.without.push(each(&order, |at| {
            page[..blobs.get(at).len()].copy_from_slice(blobs.get(at));
            black_box(&page);
            Ok(())
        })?);
        let mut out = [0; PAGE];
        swap_in.with.push(each(&order, |at| {
            load(&mut stream, pool.read(handles[at])?.contiguous(&mut page), &mut out)
        })?);
        swap_in.without.push(each(&order, |at| load(&mut stream, blobs.get(at), &mut out))?);
        swap_out.with.push(each(&order, |at| {
            black_box(stream.compress(lab.pages.get(at).try_into()?)?);
            let old = std::mem::replace(&mut handles[at], pool.store(blobs.get(at))?);
            pool.free(old)?;
            Ok(())
        })?);
        swap_out.without.push(each(&order, |at| {
            black_box(stream.compress(lab.pages.get(at).try_into()?)?);
            let blob = blobs.get(at);
            slots[at * PAGE..at * PAGE + blob.len()].copy_from_slice(blob);
            Ok(())
        })?);
    }
    // The medians of all rounds, and the goals for both swap directions.
    let columns = ["with handles", "without", "ratio"];
    let mut table = Table::new("Time for each object, random order, CPU time", &columns);
    for (what, detail, pair) in [
        ("map", ", look at the first byte, unmap", map),
        ("copy out", "", copy),
        ("swap in", ": map, decompress, unmap", swap_in),
        ("swap out", ": compress, store, free the old", swap_out),
    ] {
        let [with, without] = [pair.with, pair.without].map(median);
        let ratio = Cell::Times(with / without);
        table.row(format!("{what}{detail}"), [Cell::Seconds(with), Cell::Seconds(without), ratio]);
        if what.starts_with("swap") {
            let what = format!("{what}, with handles against without");
            report.goal(what, Bound::AtMost(MAX_INDIRECTION_RATIO), ratio);
        }
    }
    report.tables.push(table);
    report.verified_pages += verify(&pool, blobs, handles.iter().copied().enumerate())?;
    Ok(())
}

/// Decompresses a blob, or copies a page that was stored uncompressed.
fn load(stream: &mut Stream, blob: &[u8], out: &mut [u8; PAGE]) -> Result<()> {
    if blob.len() == PAGE {
        out.copy_from_slice(blob);
    } else {
        stream.decompress(blob, out)?;
    }
    black_box(out);
    Ok(())
}

/// Measures the metadata of a full pool and of one that is half freed and compacted.
fn metadata(lab: &Lab, blobs: &Blobs, report: &mut Report) -> Result<()> {
    let (pool, handles) = blobs.stored(lab)?;
    let full = sizes(&pool);
    for at in choice::choose(&mut Rng::with_seed(lab.seed), blobs.len(), FREED_PERCENT) {
        pool.free(handles[at])?;
    }
    pool.compact(&Budget::unlimited());
    let freed = format!("{FREED_PERCENT} % freed,|compacted");
    let columns = ["full", &*freed, "share|when full"];
    let mut table = Table::new("Metadata, against the frames of the pool", &columns);
    let share = |(_, bytes): (&str, u64)| Cell::Share(bytes as f64 / full[0].1 as f64);
    for (before, (what, after)) in full.into_iter().zip(sizes(&pool)) {
        table.row(what, [Cell::Bytes(before.1), Cell::Bytes(after), share(before)]);
    }
    report.tables.push(table);
    let what = "zspage records / frames of a full pool";
    report.goal(what, Bound::AtMost(MAX_METADATA_SHARE), share(full[1]));
    Ok(())
}

/// Returns the sizes of frames and metadata. Units: bytes.
fn sizes(pool: &Pool) -> [(&'static str, u64); 4] {
    let stats = pool.stats();
    let small = stats.classes.iter().filter(|line| !line.class.is_huge());
    let headers = small.map(|line| line.objects_used * size_of::<u32>() as u64).sum();
    [
        ("frames of the pool", FrameCount(stats.frames).bytes()),
        ("zspage records (the original's struct zspage)", stats.zspage_bytes),
        ("handle table", stats.handle_bytes),
        ("headers in objects", headers),
    ]
}

/// Measures the longest hold of a class lock in each part of a pool's life (L-16).
fn holds(lab: &Lab, blobs: &Blobs, report: &mut Report) -> Result<()> {
    let columns = ["longest", "whole part", "what was done"];
    let mut table = Table::new("Longest hold of a class lock, CPU time of the holder", &columns);
    let mut longest_of_all = Duration::ZERO;
    let pool = pool_of(lab, blobs.len(), HoldTimes::Measured)?;
    let mut handles = Vec::with_capacity(blobs.len());
    let mut part = |pool: &Pool, what: &str, work: &mut dyn FnMut() -> Result<u64>| -> Result<()> {
        let start = thread_cpu_time();
        let done = work()?;
        let whole = thread_cpu_time() - start;
        let longest = pool.take_max_hold_time().context("hold times are not measured")?;
        longest_of_all = longest_of_all.max(longest);
        let [longest, whole] = [longest, whole].map(|time| Cell::Seconds(time.as_secs_f64()));
        table.row(what, [longest, whole, Cell::Count(done)]);
        Ok(())
    };
    part(&pool, "objects stored", &mut || {
        for number in 0..blobs.len() {
            handles.push(pool.store(blobs.get(number))?);
        }
        Ok(blobs.len() as u64)
    })?;
    let freed = choice::choose(&mut Rng::with_seed(lab.seed), blobs.len(), FREED_PERCENT);
    part(&pool, "objects freed, at random", &mut || {
        freed.iter().try_for_each(|&at| pool.free(handles[at]).map(drop))?;
        Ok(freed.len() as u64)
    })?;
    part(&pool, "objects moved by compaction (num_migrated)", &mut || {
        Ok(pool.compact(&Budget::unlimited()).objects_moved)
    })?;
    part(&pool, "frames moved by compaction", &mut || {
        Ok(pool.zone().compact(CompactRequest::default()).frames_moved)
    })?;
    report.tables.push(table);
    let longest = Cell::Seconds(longest_of_all.as_secs_f64());
    report.goal("longest hold of a class lock", Bound::AtMost(MAX_HOLD_TIME), longest);
    // Compare the objects that are left.
    let mut live = vec![true; blobs.len()];
    freed.into_iter().for_each(|at| live[at] = false);
    let kept = handles.into_iter().enumerate().filter(|(at, _)| live[*at]);
    report.verified_pages += verify(&pool, blobs, kept)?;
    Ok(())
}

/// Compares objects byte for byte and checks the pool; returns their number.
fn verify(
    pool: &Pool,
    blobs: &Blobs,
    objects: impl Iterator<Item = (usize, Handle)>,
) -> Result<u64> {
    let (mut buf, mut count) = ([0; PAGE], 0);
    for (number, handle) in objects {
        let is_same = pool.read(handle)?.contiguous(&mut buf) == blobs.get(number);
        ensure!(is_same, "object {number} differs from what was stored");
        count += 1;
    }
    pool.check().context("the pool's book-keeping is inconsistent")?;
    Ok(count)
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}
