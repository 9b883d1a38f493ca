//! The time of a compaction, against the time of the copies that it has to make.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use frames::{FrameCount, Zone, ZoneConfig};
use memmap2::{Advice, MmapMut};
use testkit::corpus::Kind;
use testkit::{PAGE_SIZE, Page};
use zcomp::{Algorithm, Stream};
use zsmalloc::{Budget, Compaction, Handle, Pool, PoolConfig};

use crate::context::{Context, report_progress};
use crate::row::{Bound, GroupResult, Row, Samples, Unit};

/// More than any CPU cache holds. Units: bytes.
const CACHES: usize = 128 << 20;

/// A copy within the mapping.
#[derive(Clone, Copy)]
struct Copy {
    from: usize,
    to: usize,
    len: usize,
}

/// The location of an object's bytes: address and length of its one or two parts.
type Location = [(usize, usize); 2];

/// Measures the row of this part.
pub(crate) fn rows(context: &Context) -> GroupResult {
    report_progress("time of a compaction after 50 % were discarded");
    let (mut ours, mut copies) = <(Samples, Samples)>::default();
    let (mut last, mut ratios) = (Compaction::default(), (0.0, 0.0));
    for _ in 0..context.repetitions(7) {
        let turn = one(context.kind(Kind::Memory))?;
        ours.push(turn.compaction);
        copies.push(turn.copies);
        (last, ratios) = (turn.report, turn.ratios);
    }
    let what = "compaction after 50 % discarded, 1 thread: CPU time";
    let row = Row::ratio(what, &ours, "the same objects copied one by one", &copies, Unit::Seconds);
    let note = format!(
        "frag ratio {:.4} -> {:.4}, num_migrated {}, {:.1} MiB, {} frames freed; the copies are ordered by old or by new addresses, whichever is faster",
        ratios.0,
        ratios.1,
        last.objects_moved,
        last.bytes_moved as f64 / 1_048_576.0,
        last.frames_freed
    );
    Ok(vec![row.must(Bound::AtMost(2.0)).note(note)])
}

/// The times of a compaction and of its copies.
struct Turn {
    report: Compaction,
    /// Units: seconds.
    compaction: f64,
    /// Units: seconds.
    copies: f64,
    /// Stored bytes over bytes of frames, before and after the compaction.
    ratios: (f64, f64),
}

/// Returns stored bytes over bytes of frames.
pub(crate) fn frag_ratio(pool: &Pool) -> f64 {
    let stats = pool.stats();
    stats.live_bytes as f64 / (stats.frames * PAGE_SIZE as u64).max(1) as f64
}

fn one(pages: &[Page]) -> Result<Turn, Box<dyn Error>> {
    // Free half of the objects, chosen at random.
    let (pool, mut handles) = filled(pages)?;
    Rng::with_seed(50).shuffle(&mut handles);
    let kept = handles.split_off(handles.len() / 2);
    for handle in handles {
        pool.free(handle)?;
    }
    // Compact with cold caches.
    let before = locations(&pool, &kept)?;
    let mut trash = MmapMut::map_anon(CACHES)?;
    flush(&mut trash);
    let mut report = Compaction::default();
    let start = frag_ratio(&pool);
    let compaction = timed(|| report = pool.compact(&Budget::unlimited()));
    let (after, ratios) = (locations(&pool, &kept)?, (start, frag_ratio(&pool)));
    // Make the same copies without a pool.
    drop(pool);
    let copies = copy_again(&before, &after, report.objects_moved, &mut trash)?;
    Ok(Turn { report, compaction, copies, ratios })
}

/// Returns the CPU time of `work` on this thread, which other load of the machine does not
/// change.
/// Neither side waits. Units: seconds.
fn timed(work: impl FnOnce()) -> f64 {
    let start: Duration = sys::host::thread_cpu_time();
    work();
    (sys::host::thread_cpu_time() - start).as_secs_f64()
}

/// Creates a pool with these pages as compressed objects.
pub(crate) fn filled(pages: &[Page]) -> Result<(Arc<Pool>, Vec<Handle>), Box<dyn Error>> {
    let capacity = FrameCount(u64::try_from(pages.len())? + 4096);
    let zone = Arc::new(Zone::new(ZoneConfig { capacity, ..ZoneConfig::default() })?);
    let pool = Pool::new(zone, PoolConfig::default())?;
    let mut stream = Stream::new(Algorithm::Lz4 { acceleration: 1 })?;
    let mut handles = Vec::with_capacity(pages.len());
    for page in pages {
        let blob = stream.compress(page)?;
        let long = blob.len() > pool.largest_with_header();
        handles.push(pool.store(if long { &page[..] } else { blob })?);
    }
    Ok((pool, handles))
}

/// Returns the location of every object.
fn locations(pool: &Pool, handles: &[Handle]) -> Result<Vec<Location>, Box<dyn Error>> {
    let location = |piece: &[u8]| (piece.as_ptr().addr(), piece.len());
    handles
        .iter()
        .map(|&handle| {
            let object = pool.read(handle)?;
            let (head, tail) = object.pieces();
            Ok([location(head), location(tail)])
        })
        .collect()
}

/// Evicts the data from the CPU caches.
fn flush(trash: &mut MmapMut) {
    for line in trash.chunks_mut(64) {
        line[0] = line[0].wrapping_add(1);
    }
    black_box(&trash[0]);
}

/// Times the copies in a mapping like the arena, with every byte at the offset it had there.
fn copy_again(
    before: &[Location],
    after: &[Location],
    moved: u64,
    trash: &mut MmapMut,
) -> Result<f64, Box<dyn Error>> {
    let mut objects: Vec<(Location, Location)> = before
        .iter()
        .zip(after)
        .filter(|(from, to)| from != to)
        .map(|(&from, &to)| (from, to))
        .collect();
    // A few objects may return to their old address, in a frame that was freed in between.
    if (objects.len() as u64) * 100 < moved * 98 {
        return Err(format!(
            "{moved} objects were moved, but {} have another address",
            objects.len()
        )
        .into());
    }
    // A mapping of the same length, touched before the time is taken.
    let all = || before.iter().chain(after).flatten().filter(|piece| piece.1 > 0);
    let first = all().map(|piece| piece.0).min().unwrap_or(0) & !((2 << 20) - 1);
    let end = all().map(|piece| piece.0 + piece.1).max().unwrap_or(0);
    let mut arena = MmapMut::map_anon(end - first)?;
    arena.advise(Advice::HugePage)?;
    arena.fill(1);
    // Take the faster of two orders: by the old address and by the new one.
    let mut best = f64::INFINITY;
    for by_new in [false, true] {
        objects.sort_by_key(|(from, to)| if by_new { to[0].0 } else { from[0].0 });
        let copies: Vec<Copy> =
            objects.iter().flat_map(|&(from, to)| split(from, to, first)).collect();
        flush(trash);
        let copy_all = || {
            copies
                .iter()
                .for_each(|&Copy { from, to, len }| arena.copy_within(from..from + len, to))
        };
        best = best.min(timed(copy_all));
        black_box(&arena[0]);
    }
    Ok(best)
}

/// Splits the copy of an object, of up to two parts on both sides, into copies within the
/// mapping, which starts at address `first`.
fn split(from: Location, to: Location, first: usize) -> Vec<Copy> {
    let (mut copies, mut from, mut to) = (Vec::with_capacity(3), from, to);
    let (mut source, mut target) = (0, 0);
    while source < 2 && target < 2 {
        let len = from[source].1.min(to[target].1);
        if len > 0 {
            copies.push(Copy { from: from[source].0 - first, to: to[target].0 - first, len });
        }
        for (pieces, at) in [(&mut from, &mut source), (&mut to, &mut target)] {
            pieces[*at] = (pieces[*at].0 + len, pieces[*at].1 - len);
            *at += usize::from(pieces[*at].1 == 0);
        }
    }
    copies
}

const _: () = assert!(PAGE_SIZE == 4096);
