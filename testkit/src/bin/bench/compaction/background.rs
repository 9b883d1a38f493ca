//! Background compaction with one writer at full speed: the density of the memory, and the loss
//! of the
//! writer.

use std::error::Error;
use std::time::{Duration, Instant};

use fastrand::Rng;
use testkit::PAGE_SIZE;
use testkit::corpus::Kind;
use zsmalloc::{Background, BackgroundConfig};

use crate::context::{Context, Effort, report_progress};
use crate::density::value;
use crate::row::{Bound, GroupResult, Row, Samples, Unit};
use crate::tracked_disk::TrackedDisk;

/// Overwrites between two readings of the density.
const SAMPLE_INTERVAL: usize = 1000;

/// Number of readings of the resident memory.
const RSS_SAMPLES: usize = 20;

/// Measures all rows of this part.
pub(crate) fn rows(context: &Context) -> GroupResult {
    let mut rows = held(context)?;
    rows.push(writers(context)?);
    Ok(rows)
}

/// Measures the lowest density and the most resident memory during a long run.
fn held(context: &Context) -> GroupResult {
    let count = if context.effort == Effort::Full { 3_000_000 } else { 300_000 };
    report_progress(&format!("lowest density during {count} random overwrites"));
    let resident =
        || sys::rss::resident_bytes().map(|bytes| bytes as f64).ok_or("/proc/self has no RSS");
    let empty = resident()?;
    let mut tracked = TrackedDisk::new(context.kind(Kind::Memory))?;
    let (fresh, at_start) = (resident()? - empty, tracked.density());
    let mut live = tracked.live().cast_signed();
    let (mut rng, mut lowest, mut most) = (Rng::with_seed(3), f64::INFINITY, fresh);
    let pool = tracked.pool().clone();
    let background = Background::start(&pool, BackgroundConfig::default())?;
    let start = Instant::now();
    let mut pause = Duration::ZERO;
    // Overwrite random pages. The time for reading the resident memory is not counted.
    for number in 1..=count {
        live += tracked.overwrite_one(&mut rng);
        if number % SAMPLE_INTERVAL == 0 {
            lowest = lowest.min(live as f64 / (pool.frames() * PAGE_SIZE as u64) as f64);
        }
        if number % (count / RSS_SAMPLES) == 0 {
            let looked = Instant::now();
            most = most.max(resident()? - empty);
            pause += looked.elapsed();
        }
    }
    let elapsed = start.elapsed() - pause;
    let stats = pool.stats();
    drop(background);
    let share = stats.background.cpu.as_secs_f64() / elapsed.as_secs_f64();
    let note = format!(
        "frag ratio {at_start:.4} fresh, {:.4} at the end; {} slices, num_migrated {}, {} frames freed, {:.2} % of a CPU; {:.1} k overwrites/s {}",
        tracked.density(),
        stats.background.slices,
        stats.background.objects_moved,
        stats.background.frames_freed,
        share * 100.0,
        f64::from(count as u32) / elapsed.as_secs_f64() / 1e3,
        tracked.remark()
    );
    let what = format!("background at 10 %: lowest density in {count} random overwrites");
    let density = value(what, lowest, format!("freshly filled: {at_start:.4}"));
    let memory = Row::ratio(
        "background at 10 %: most RSS in that run",
        &Samples::one(most),
        "freshly filled",
        &Samples::one(fresh),
        Unit::Bytes,
    );
    let cpu = value("background at 10 %: share of a CPU used".into(), share, "the cap".into());
    Ok(vec![
        density.must(Bound::AtLeast(0.975)).note(note),
        memory
            .must(Bound::AtMost(1.03))
            .note("RSS before the disk was filled is subtracted from both"),
        cpu.must(Bound::AtMost(0.105)),
    ])
}

/// Measures the writer with and without background compaction, in turns.
fn writers(context: &Context) -> Result<Row, Box<dyn Error>> {
    report_progress("throughput of a writer during background compaction");
    // Many short turns: other load of the machine then affects both sides.
    let count = 100_000 / context.count_divisor();
    let mut tracked = TrackedDisk::new(context.kind(Kind::Memory))?;
    let mut rng = Rng::with_seed(4);
    let mut rate = |tracked: &mut TrackedDisk<'_>| {
        let start = Instant::now();
        for _ in 0..count {
            tracked.overwrite_one(&mut rng);
        }
        f64::from(count as u32) / start.elapsed().as_secs_f64()
    };
    rate(&mut tracked);
    let (mut on, mut off) = (Samples::default(), Samples::default());
    for _ in 0..context.repetitions(21) {
        off.push(rate(&mut tracked));
        let background = Background::start(&tracked.pool().clone(), BackgroundConfig::default())?;
        on.push(rate(&mut tracked));
        drop(background);
    }
    let row =
        Row::ratio("1 writer, background at 10 %: overwrites", &on, "without", &off, Unit::Rate);
    Ok(row
        .must(Bound::AtLeast(0.90))
        .note("a turn with the background also compacts what the turn before left"))
}
