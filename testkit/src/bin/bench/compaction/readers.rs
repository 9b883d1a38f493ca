//! The slowest reads of one reader while another thread churns and compacts without pause.
//!
//! The other thread costs any reader cache lines and time slices. So the reader is compared with
//! itself while that thread works on *another* pool of the same content. The difference is the
//! effect of compaction on the readers of its pool.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use fastrand::Rng;
use frames::CompactRequest;
use testkit::corpus::Kind;
use zsmalloc::{Budget, Handle, Pool};

use super::speed::{filled, frag_ratio};
use crate::context::{Context, report_progress};
use crate::row::{Bound, GroupResult, Row, Samples, Unit};

/// Objects that are replaced between two compactions.
const CHURN: usize = 2_000;

/// A pool and the current handles of its objects.
struct PoolUnderTest {
    pool: Arc<Pool>,
    slots: Vec<AtomicU64>,
}

impl PoolUnderTest {
    fn new(context: &Context) -> Result<Self, Box<dyn Error>> {
        let (pool, handles) = filled(context.kind(Kind::Memory))?;
        Ok(Self {
            pool,
            slots: handles.iter().map(|handle| AtomicU64::new(handle.to_bits())).collect(),
        })
    }
}

/// Measures the row of this part.
pub(crate) fn rows(context: &Context) -> GroupResult {
    report_progress("read latency during continuous compaction");
    let (stock, other) = (PoolUnderTest::new(context)?, PoolUnderTest::new(context)?);
    let (mut with, mut without, mut moved) = <(Samples, Samples, Samples)>::default();
    let mut total = 0;
    for turn in 0..context.repetitions(9) as u64 {
        without.push(slowest(context, &stock, &other, turn)?.0);
        let (latency, done) = slowest(context, &stock, &stock, turn)?;
        with.push(latency);
        moved.push(done.bytes_a_second);
        total += done.objects;
    }
    let what = "1 reader during churn and both compactions: p99.9";
    let row = Row::ratio(what, &with, "the same in another pool", &without, Unit::Seconds);
    let note = format!(
        "frag ratio at the end {:.4}, num_migrated {total}; {:.0} MB of objects and frames moved a second",
        frag_ratio(&stock.pool),
        moved.median() / 1e6
    );
    Ok(vec![row.must(Bound::AtMost(1.5)).note(note)])
}

/// The work of the churning thread.
struct ChurnStats {
    bytes_a_second: f64,
    objects: u64,
}

/// Returns the reader's p99.9 in seconds while another thread churns `busy`.
fn slowest(
    context: &Context,
    stock: &PoolUnderTest,
    busy: &PoolUnderTest,
    seed: u64,
) -> Result<(f64, ChurnStats), Box<dyn Error>> {
    let PoolUnderTest { pool, slots } = stock;
    let stop = AtomicBool::new(false);
    let mut latencies = Vec::with_capacity(4_000_000);
    let done = thread::scope(|scope| -> Result<ChurnStats, Box<dyn Error>> {
        let churner = scope.spawn(|| churn(busy, &stop, seed));
        let (start, mut rng) = (Instant::now(), Rng::with_seed(seed + 100));
        let mut page = [0; 4096];
        while start.elapsed() < context.load_time() {
            let slot = &slots[rng.usize(..slots.len())];
            let before = Instant::now();
            // A stale handle is loaded again, as a device does.
            while let Err(error) =
                pool.read(Handle::from_bits(slot.load(Ordering::Acquire))).map(|object| {
                    black_box(object.contiguous(&mut page));
                })
            {
                assert_eq!(error, zsmalloc::AccessError::Stale);
            }
            latencies.push(before.elapsed().as_secs_f64());
        }
        stop.store(true, Ordering::Release);
        let (bytes, objects) = churner.join().map_err(|_| "the churning thread panicked")?;
        Ok(ChurnStats { bytes_a_second: bytes as f64 / start.elapsed().as_secs_f64(), objects })
    })?;
    latencies.sort_by(f64::total_cmp);
    let place = (latencies.len() as f64 * 0.999) as usize;
    Ok((latencies.get(place).copied().ok_or("nothing was read")?, done))
}

/// Replaces objects by copies of others, and compacts objects and frames after every round.
/// Returns the bytes and objects moved.
fn churn(stock: &PoolUnderTest, stop: &AtomicBool, seed: u64) -> (u64, u64) {
    let PoolUnderTest { pool, slots } = stock;
    let (mut rng, mut moved, mut objects) = (Rng::with_seed(seed), 0, 0);
    while !stop.load(Ordering::Acquire) {
        for _ in 0..CHURN {
            let from = Handle::from_bits(slots[rng.usize(..slots.len())].load(Ordering::Acquire));
            let bytes = pool.read(from).expect("no other thread frees objects").to_vec();
            let new = pool.store(&bytes).expect("the zone has room for a copy");
            let old = slots[rng.usize(..slots.len())].swap(new.to_bits(), Ordering::AcqRel);
            pool.free(Handle::from_bits(old)).expect("no other thread frees objects");
        }
        let compaction = pool.compact(&Budget::unlimited());
        objects += compaction.objects_moved;
        moved += compaction.bytes_moved;
        moved +=
            pool.zone().compact(CompactRequest::default()).frames_moved * frames::FRAME_SIZE as u64;
    }
    (moved, objects)
}
