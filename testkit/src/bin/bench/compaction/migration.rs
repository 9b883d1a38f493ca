//! The rate of two readers while another thread migrates frames with a tenth of a CPU.
//!
//! Time is wall-clock time, so waiting counts. In the turns for comparison the thread migrates
//! frames of *another* zone, so that its tenth of a CPU affects both sides.

use std::error::Error;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use frames::{Isolated, MigrateMode, MigrateType, Pfn, Reclaim, Zone};
use sys::host::thread_cpu_time;
use testkit::corpus::Kind;
use zsmalloc::{Handle, Pool};

use super::speed::{filled, frag_ratio};
use crate::context::{Context, report_progress};
use crate::row::{Bound, GroupResult, Row, Samples, Unit};

/// Number of reading threads.
const READERS: usize = 2;
/// Frames isolated and migrated at once.
const BATCH: usize = 32;
/// Divisor of the share of a CPU that migrates frames.
const CPU_SHARE_DIVISOR: u32 = 10;

/// Measures the row of this part.
pub(crate) fn rows(context: &Context) -> GroupResult {
    report_progress("reads while frames migrate");
    let (pool, handles) = filled(context.kind(Kind::Memory))?;
    let (other, _) = filled(context.kind(Kind::Memory))?;
    let (mut with, mut without) = <(Samples, Samples)>::default();
    let (mut moved, mut elsewhere) = <(Samples, Samples)>::default();
    for turn in 0..context.repetitions(9) as u64 {
        // First with migration in the other zone, then in the readers' zone.
        let (reads, frames) = turn_of(context, &pool, &handles, other.zone(), turn)?;
        without.push(reads);
        elsewhere.push(frames);
        let (reads, frames) = turn_of(context, &pool, &handles, pool.zone(), turn)?;
        with.push(reads);
        moved.push(frames);
    }
    let what = "2 readers while frames migrate at 10 % of a CPU: reads a second";
    let row = Row::ratio(what, &with, "frames of another zone migrate", &without, Unit::Rate);
    let note = format!(
        "{:.0} frames moved a second, {:.0} in the other zone; frag ratio {:.4}, num_migrated 0: objects keep their slots",
        moved.median(),
        elsewhere.median(),
        frag_ratio(&pool)
    );
    Ok(vec![row.must(Bound::AtLeast(0.9)).note(note)])
}

/// Returns the reads per second of all readers, and the frames of `migrate` moved per second.
fn turn_of(
    context: &Context,
    pool: &Pool,
    handles: &[Handle],
    migrate: &Zone,
    seed: u64,
) -> Result<(f64, f64), Box<dyn Error>> {
    let stop = AtomicBool::new(false);
    let start = Instant::now();
    let (reads, moved) = thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS as u64)
            .map(|number| {
                scope.spawn({
                    let stop = &stop;
                    move || read(pool, handles, stop, seed * 10 + number)
                })
            })
            .collect();
        let mover = scope.spawn(|| keep_moving(migrate, &stop, seed));
        thread::sleep(context.load_time());
        stop.store(true, Ordering::Release);
        let reads: Option<f64> = readers.into_iter().map(|reader| reader.join().ok()).sum();
        (reads, mover.join().ok())
    });
    let (reads, moved) = reads.zip(moved).ok_or("a thread panicked")?;
    Ok((reads, moved as f64 / start.elapsed().as_secs_f64()))
}

/// Reads random objects until `stop` is set. Returns the reads per second.
fn read(pool: &Pool, handles: &[Handle], stop: &AtomicBool, seed: u64) -> f64 {
    let (mut rng, mut count, start) = (Rng::with_seed(seed), 0u64, Instant::now());
    let mut page = [0; 4096];
    while !stop.load(Ordering::Acquire) {
        let object =
            pool.read(handles[rng.usize(..handles.len())]).expect("no thread frees objects");
        black_box(object.contiguous(&mut page));
        count += 1;
    }
    count as f64 / start.elapsed().as_secs_f64()
}

/// Migrates random frames to new ones with a tenth of a CPU. Returns how many moved.
fn keep_moving(zone: &Zone, stop: &AtomicBool, seed: u64) -> u64 {
    let (mut rng, mut moved) = (Rng::with_seed(seed ^ 0xf4a3e), 0);
    let frames = u32::try_from(zone.stats().online.0).unwrap_or(u32::MAX);
    while !stop.load(Ordering::Acquire) {
        let start = thread_cpu_time();
        while thread_cpu_time() - start < Duration::from_millis(1) {
            let mut batch: Vec<Isolated<'_>> =
                (0..BATCH).filter_map(|_| zone.isolate(Pfn(rng.u32(..frames)))).collect();
            let mut fresh = |_| zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).ok();
            moved += zone.migrate_pages(&mut batch, &mut fresh, MigrateMode::Async).migrated;
        }
        // One part of work, nine parts of sleep.
        thread::sleep((thread_cpu_time() - start) * (CPU_SHARE_DIVISOR - 1));
    }
    moved
}
