//! One reader beside a thread that churns and compacts without end: how much longer its slowest reads take.

use std::error::Error;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use frames::CompactRequest;
use testkit::Rng;
use testkit::corpus::Kind;
use zsmalloc::{Budget, Handle, Pool};

use super::speed::filled;
use crate::context::{Context, Outcome, tell};
use crate::row::{Reach, Row, Samples, Unit};

/// Objects replaced before it is compacted again.
const CHURN: usize = 2_000;

/// What the thread beside the reader does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Churn,
    ChurnAndCompaction,
}

pub fn rows(context: &Context) -> Outcome {
    tell("read latency beside compaction without end");
    let (pool, handles) = filled(context.corpus.kind(Kind::Memory))?;
    let slots: Vec<AtomicU64> = handles.iter().map(|handle| AtomicU64::new(handle.to_bits())).collect();
    let (mut with, mut without, mut moved) = (Samples::default(), Samples::default(), Samples::default());
    for turn in 0..context.repetitions(7) as u64 {
        without.push(slowest(context, &pool, &slots, Beside::Churn, turn)?.0);
        let (latency, speed) = slowest(context, &pool, &slots, Beside::ChurnAndCompaction, turn)?;
        with.push(latency);
        moved.push(speed);
    }
    let difference = with.median() - without.median();
    let row =
        Row::ratio("1 reader beside both compactions: p99.9", &with, "beside churn alone", &without, Unit::Seconds);
    let note = format!(
        "the number compared is the difference in us; {:.0} MB of objects and frames moved a second",
        moved.median() / 1e6
    );
    Ok(vec![row.comparing(difference * 1e6).must(Reach::Most(50.0)).note(note)])
}

/// The reader's p99.9 in seconds, and bytes moved a second.
fn slowest(
    context: &Context,
    pool: &Pool,
    slots: &[AtomicU64],
    beside: Beside,
    seed: u64,
) -> Result<(f64, f64), Box<dyn Error>> {
    let stop = AtomicBool::new(false);
    let mut latencies = Vec::with_capacity(4_000_000);
    let bytes = thread::scope(|scope| -> Result<f64, Box<dyn Error>> {
        let churner = scope.spawn(|| churn(pool, slots, beside, &stop, seed));
        let (start, mut rng) = (Instant::now(), Rng::new(seed + 100));
        let mut page = [0; 4096];
        while start.elapsed() < context.load_time() {
            let slot = &slots[rng.index(slots.len())];
            let before = Instant::now();
            // A handle that went stale is looked up again, as a device does.
            while let Err(error) = pool.read(Handle::from_bits(slot.load(Ordering::Acquire))).map(|object| {
                black_box(object.contiguous(&mut page));
            }) {
                assert_eq!(error, zsmalloc::AccessError::Stale);
            }
            latencies.push(before.elapsed().as_secs_f64());
        }
        stop.store(true, Ordering::Release);
        let moved = churner.join().map_err(|_| "the churning thread panicked")?;
        Ok(moved as f64 / start.elapsed().as_secs_f64())
    })?;
    latencies.sort_by(f64::total_cmp);
    let place = (latencies.len() as f64 * 0.999) as usize;
    Ok((latencies.get(place).copied().ok_or("nothing was read")?, bytes))
}

/// Replaces objects by copies of others, and compacts objects and frames after every round if that is asked for; bytes moved.
fn churn(pool: &Pool, slots: &[AtomicU64], beside: Beside, stop: &AtomicBool, seed: u64) -> u64 {
    let (mut rng, mut moved) = (Rng::new(seed), 0);
    while !stop.load(Ordering::Acquire) {
        for _ in 0..CHURN {
            let from = Handle::from_bits(slots[rng.index(slots.len())].load(Ordering::Acquire));
            let bytes = pool.read(from).expect("only this thread frees").to_vec();
            let new = pool.store(&bytes).expect("there is room");
            let old = slots[rng.index(slots.len())].swap(new.to_bits(), Ordering::AcqRel);
            pool.free(Handle::from_bits(old)).expect("only this thread frees");
        }
        if beside == Beside::ChurnAndCompaction {
            moved += pool.compact(&Budget::unlimited()).bytes_moved;
            moved += pool.zone().compact(CompactRequest::default()).frames_moved * frames::FRAME_SIZE as u64;
        }
    }
    moved
}
