//! The store against the bare codec, in one process: fill, random overwrite and cold random read,
//! on one thread and on two.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use memmap2::{Advice, MmapMut};
use testkit::{PAGE_SIZE, Page, permutation};
use zcomp::{Algorithm, Stream};

use crate::codec::{self, Blobs};
use crate::context::{Context, report_progress};
use crate::disk::Disk;
use crate::row::{Bound, GroupResult, Row, Samples, Unit};

/// The samples of one operation, taken in turns. Units: pages per second.
#[derive(Default)]
struct TurnSamples {
    bare: Samples,
    ours: Samples,
    bare_two: Samples,
    ours_two: Samples,
    /// A note for the reader, or empty.
    remark: String,
}

/// Measures all rows of this group.
pub(crate) fn run(context: &Context) -> GroupResult {
    let lz4 = Algorithm::Lz4 { acceleration: 1 };
    let mut rows = Vec::new();
    rows.append(&mut of(context, lz4, context.repetitions(7), [0.93, 0.88, 0.90].map(Some))?);
    rows.append(&mut of(context, Algorithm::Zstd { level: 3 }, context.repetitions(5), [None; 3])?);
    Ok(rows)
}

fn of(
    context: &Context,
    algorithm: Algorithm,
    repetitions: usize,
    reach: [Option<f64>; 3],
) -> GroupResult {
    let mut rows = Vec::new();
    report_progress(&format!("in-process fill, {algorithm}"));
    rows.append(
        &mut fill(context, algorithm, repetitions)?.rows(&format!("fill, {algorithm}"), reach[0]),
    );
    report_progress(&format!("in-process random overwrite, {algorithm}"));
    rows.append(
        &mut overwrite(context, algorithm, repetitions)?
            .rows(&format!("overwrite, {algorithm}"), reach[1]),
    );
    report_progress(&format!("in-process random read, {algorithm}"));
    rows.append(
        &mut read(context, algorithm, repetitions)?
            .rows(&format!("random read, {algorithm}"), reach[2]),
    );
    Ok(rows)
}

impl TurnSamples {
    fn rows(&self, what: &str, reach: Option<f64>) -> Vec<Row> {
        let judge =
            |row: Row, least: Option<f64>| row.must(least.map_or(Bound::Info, Bound::AtLeast));
        let scaling = self.bare_two.median() / self.bare.median();
        // One thread is compared with the bare codec, two threads with one.
        let one = Row::ratio(
            format!("{what}, 1 thread"),
            &self.ours,
            "bare codec",
            &self.bare,
            Unit::Rate,
        )
        .note(self.remark.as_str());
        let two = Row::ratio(
            format!("{what}, 2 threads"),
            &self.ours_two,
            "1 thread",
            &self.ours,
            Unit::Rate,
        )
        .note(format!(
            "the bare codec is {scaling:.3} times as fast with a second thread on this machine"
        ));
        vec![judge(one, reach), judge(two, reach.map(|_| 1.85))]
    }
}

/// Returns the rate of `work(part, parts)` on `parts` threads. Units: pages per second.
fn rate(count: usize, parts: usize, work: &(dyn Fn(usize, usize) + Sync)) -> f64 {
    let start = Instant::now();
    if parts == 1 {
        work(0, 1);
    } else {
        thread::scope(|scope| {
            for part in 0..parts {
                scope.spawn(move || work(part, parts));
            }
        });
    }
    count as f64 / start.elapsed().max(Duration::from_nanos(1)).as_secs_f64()
}

/// Returns the items of one part: a contiguous share.
fn share<T>(items: &[T], part: usize, parts: usize) -> &[T] {
    let start = |part| items.len() * part / parts;
    &items[start(part)..start(part + 1)]
}

/// The panic message of the codec's measurements.
const CODEC_WORKS: &str = "the codec works on every page";

fn fill(
    context: &Context,
    algorithm: Algorithm,
    repetitions: usize,
) -> Result<TurnSamples, Box<dyn Error>> {
    let pages = &context.mixed;
    let numbers: Vec<u32> = (0..u32::try_from(pages.len())?).collect();
    let bare = |part, parts| {
        let mut stream = Stream::new(algorithm).expect(CODEC_WORKS);
        codec::compress(&mut stream, share(pages, part, parts).iter()).expect(CODEC_WORKS);
    };
    // Fill once without measuring: on a virtual machine the first touch of memory is slow.
    drop(Disk::filled(pages, algorithm)?);
    let (mut turns, mut touch) = (TurnSamples::default(), Samples::default());
    for _ in 0..repetitions {
        for (parts, bare_samples, our_samples) in turns.by_threads() {
            bare_samples.push(rate(pages.len(), parts, &bare));
            // A new device each time: the first touch of its memory is part of a fill.
            let disk = Disk::new(pages.len(), algorithm)?;
            let ours = |part, parts| {
                for &at in share(&numbers, part, parts) {
                    disk.write(at, &pages[at as usize]);
                }
            };
            our_samples.push(rate(pages.len(), parts, &ours));
            if parts == 1 {
                touch.push(first_touch(disk.used())? / pages.len() as f64);
            }
        }
    }
    turns.remark = format!(
        "{:.2} us of the {:.2} us per page are spent in the OS, measured as the first touch of as much memory",
        touch.median() * 1e6,
        1e6 / turns.ours.median()
    );
    Ok(turns)
}

/// Returns the seconds for the first touch of `bytes` of memory with huge pages, as in the arena.
fn first_touch(bytes: u64) -> Result<f64, Box<dyn Error>> {
    let mut memory = MmapMut::map_anon(usize::try_from(bytes)?.max(PAGE_SIZE))?;
    memory.advise(Advice::HugePage)?;
    let start = Instant::now();
    memory.iter_mut().step_by(PAGE_SIZE).for_each(|byte| *byte = 1);
    Ok(start.elapsed().as_secs_f64())
}

impl TurnSamples {
    fn by_threads(&mut self) -> [(usize, &mut Samples, &mut Samples); 2] {
        [(1, &mut self.bare, &mut self.ours), (2, &mut self.bare_two, &mut self.ours_two)]
    }
}

/// Returns random pages of the disk, each with a random source page.
fn moves(pages: &[Page], seed: u64) -> Vec<(u32, u32)> {
    let (mut rng, len) = (Rng::with_seed(seed), u32::try_from(pages.len()).unwrap_or(u32::MAX));
    (0..len).map(|_| (rng.u32(..len), rng.u32(..len))).collect()
}

fn overwrite(
    context: &Context,
    algorithm: Algorithm,
    repetitions: usize,
) -> Result<TurnSamples, Box<dyn Error>> {
    let pages = &context.mixed;
    let disk = Disk::filled(pages, algorithm)?;
    let mut turns = TurnSamples::default();
    for repetition in 0..repetitions {
        for (parts, bare_samples, our_samples) in turns.by_threads() {
            // The bare codec compresses the same pages in the same order as the store.
            let moves = moves(pages, (repetition * 2 + parts) as u64);
            let bare = |part, parts| {
                let mut stream = Stream::new(algorithm).expect(CODEC_WORKS);
                let sources =
                    share(&moves, part, parts).iter().map(|&(_, source)| &pages[source as usize]);
                codec::compress(&mut stream, sources).expect(CODEC_WORKS);
            };
            bare_samples.push(rate(moves.len(), parts, &bare));
            let ours = |part, parts| {
                for &(at, source) in share(&moves, part, parts) {
                    disk.write(at, &pages[source as usize]);
                }
            };
            our_samples.push(rate(moves.len(), parts, &ours));
        }
    }
    Ok(turns)
}

fn read(
    context: &Context,
    algorithm: Algorithm,
    repetitions: usize,
) -> Result<TurnSamples, Box<dyn Error>> {
    let pages = &context.mixed;
    let disk = Disk::filled(pages, algorithm)?;
    let blobs = Blobs::new(algorithm, pages)?;
    let mut turns = TurnSamples::default();
    for repetition in 0..repetitions {
        for (parts, bare_samples, our_samples) in turns.by_threads() {
            let order = permutation(u32::try_from(pages.len())?, (repetition * 2 + parts) as u64);
            let bare = |part, parts| {
                let mut stream = Stream::new(algorithm).expect(CODEC_WORKS);
                blobs.decompress(&mut stream, share(&order, part, parts)).expect(CODEC_WORKS);
            };
            bare_samples.push(rate(order.len(), parts, &bare));
            let ours = |part, parts| {
                let mut page = Page::zeroed();
                for &at in share(&order, part, parts) {
                    disk.read(at, &mut page);
                    std::hint::black_box(&page);
                }
            };
            our_samples.push(rate(order.len(), parts, &ours));
        }
    }
    verify(&disk, pages)?;
    Ok(turns)
}

/// Checks that the disk holds `pages`: a speed counts only if the bytes are right.
fn verify(disk: &Disk, pages: &[Page]) -> Result<(), Box<dyn Error>> {
    let mut page = Page::zeroed();
    for (at, expected) in (0..).zip(pages) {
        disk.read(at, &mut page);
        if page != *expected {
            return Err(format!("page {at} reads as other bytes than were written").into());
        }
    }
    Ok(())
}
