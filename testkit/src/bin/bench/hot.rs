//! Small random writes and repeated reads, with and without a cache of hot pages.

use std::error::Error;
use std::time::Instant;

use block::{BlockDevice, Bytes, Span};
use fastrand::Rng;
use testkit::{PAGE_SIZE, Page};
use zcomp::Algorithm;
use zram::{Zram, ZramConfig};

use crate::context::{Context, report_progress};
use crate::row::{Bound, GroupResult, Row, Samples, Unit};

/// Length of a small write. Units: bytes.
const PART: usize = 512;

/// Number of pages in the load.
const PAGES: usize = 8_192;

/// Cache sizes in pages, with the words for the row.
const CACHES: [(usize, &str); 3] = [
    (PAGES + PAGES / 8, "that holds them all"),
    (PAGES / 4, "a quarter of their size"),
    (PAGES / 64, "a 64th of their size"),
];

/// Measures all rows of this group.
pub(crate) fn run(context: &Context) -> GroupResult {
    let pages = &context.mixed[..PAGES.min(context.mixed.len())];
    let mut rows = Vec::new();
    for (cache, how) in CACHES {
        report_progress(&format!("small writes and reads of hot pages, a cache {how}"));
        let (mut on, mut off) = (TurnSamples::default(), TurnSamples::default());
        for turn in 0..context.repetitions(7) as u64 {
            off.take(pages, None, turn)?;
            on.take(pages, Some(Bytes((cache * PAGE_SIZE) as u64)), turn)?;
        }
        let row = |what: &str, on: &Samples, off: &Samples| {
            Row::ratio(format!("{what}, lz4, a cache {how}"), on, "no cache", off, Unit::Rate)
                .must(Bound::Info)
        };
        rows.push(row("512-byte random writes", &on.writes, &off.writes).note(on.remark));
        rows.push(row("random reads of whole pages", &on.reads, &off.reads));
    }
    Ok(rows)
}

/// Samples with and without a cache. Units: operations per second.
#[derive(Default)]
struct TurnSamples {
    writes: Samples,
    reads: Samples,
    remark: String,
}

impl TurnSamples {
    /// Creates a disk, fills it, warms its cache, measures it and checks its content.
    fn take(
        &mut self,
        pages: &[Page],
        hot_cache: Option<Bytes>,
        seed: u64,
    ) -> Result<(), Box<dyn Error>> {
        let size = Bytes((pages.len() * PAGE_SIZE) as u64);
        let config = ZramConfig {
            algorithm: Algorithm::Lz4 { acceleration: 1 },
            hot_cache,
            ..ZramConfig::new(size)
        };
        let disk = Zram::new(config)?;
        let mut expected = pages.to_vec();
        for (at, page) in (0u64..).zip(pages) {
            disk.write(Span::new(at * PAGE_SIZE as u64, PAGE_SIZE as u64, size)?, &page[..])?;
        }
        let mut rng = Rng::with_seed(seed);
        // The first round warms the cache and is not measured.
        small_writes(&disk, &mut expected, &mut rng)?;
        self.writes.push(small_writes(&disk, &mut expected, &mut rng)?);
        // Measure reads of whole pages.
        let mut page = Page::zeroed();
        let start = Instant::now();
        let count = pages.len() * 4;
        for _ in 0..count {
            let at = rng.usize(..pages.len()) as u64 * PAGE_SIZE as u64;
            disk.read(Span::new(at, PAGE_SIZE as u64, size)?, &mut page[..])?;
            std::hint::black_box(&page);
        }
        self.reads.push(count as f64 / start.elapsed().as_secs_f64());
        // Check the content, then the device's own invariants.
        for (at, expected) in (0u64..).zip(&expected) {
            disk.read(Span::new(at * PAGE_SIZE as u64, PAGE_SIZE as u64, size)?, &mut page[..])?;
            if page != *expected {
                return Err(format!("page {at} reads as other bytes than were written").into());
            }
        }
        disk.check()?;
        let hot = disk.stat().hot;
        self.remark = format!(
            "{} hits, {} admissions, {} evictions in the last turn",
            hot.hits, hot.admissions, hot.evictions
        );
        Ok(())
    }
}

/// Writes 512 bytes of another page at each of many random offsets. Returns operations per
/// second.
fn small_writes(disk: &Zram, expected: &mut [Page], rng: &mut Rng) -> Result<f64, Box<dyn Error>> {
    let count = expected.len() * 4;
    let mut busy = std::time::Duration::ZERO;
    for _ in 0..count {
        let (at, from) = (rng.usize(..expected.len()), rng.usize(..expected.len()));
        let inside = rng.usize(..PAGE_SIZE / PART) * PART;
        let mut part = [0; PART];
        part.copy_from_slice(&expected[from][inside..inside + PART]);
        let span = Span::new((at * PAGE_SIZE + inside) as u64, PART as u64, disk.size())?;
        let start = Instant::now();
        disk.write(span, &part)?;
        busy += start.elapsed();
        expected[at][inside..inside + PART].copy_from_slice(&part);
    }
    Ok(count as f64 / busy.as_secs_f64())
}
