//! One compaction on demand: of objects, of frames, or of both within one budget.

use std::time::{Duration, Instant};

use zram::{Compaction, FrameCompaction, Zram};
use zsmalloc::{Budget, CompactionOutcome};

use super::compact_json::{CompactReport, CompactRequest, PartReport};
use crate::durations::micros;

/// Time to wait for a compaction by another thread. The background thread works in slices of
/// milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Delay between two attempts.
const RETRY_DELAY: Duration = Duration::from_millis(2);

/// Compacts objects into full zspages, then frames into full 2 MiB blocks, as far as requested,
/// within `budget`.
pub(super) fn run(disk: &Zram, request: CompactRequest, budget: Duration) -> CompactReport {
    let before = disk.stat();
    let start = Instant::now();
    let rest = || Budget::within(budget.saturating_sub(start.elapsed()));
    // Frames come second: object compaction frees frames that then need no move.
    let objects = request.objects.then(|| timed(|| objects(disk, rest)));
    let frames = request.frames.then(|| timed(|| frames(disk, rest)));
    let duration = start.elapsed();
    let after = disk.stat();
    // Summarise both parts; the worse outcome is that of the whole.
    let object_text = objects.map(|(done, _)| object_outcome(done.outcome));
    let frame_text = frames.map(|(done, _)| frame_outcome(done.outcome));
    let part = |outcome: Option<OutcomeText>, time| {
        outcome.map(|OutcomeText(_, text)| PartReport { outcome: text.into(), duration_us: time })
    };
    let (moved, object_time) = objects.unwrap_or_default();
    let (frames_done, frame_time) = frames.unwrap_or_default();
    CompactReport {
        objects: part(object_text, micros(object_time)),
        frames: part(frame_text, micros(frame_time)),
        objects_moved: moved.objects_moved,
        bytes_moved: moved.bytes_moved,
        frames_freed: moved.frames_freed,
        zspages_freed: moved.zspages_freed,
        skipped: moved.skipped,
        frames_moved: frames_done.frames_moved,
        frames_busy: frames_done.frames_busy,
        frames_scanned: frames_done.scanned,
        outcome: object_text.max(frame_text).map_or("done", |OutcomeText(_, text)| text).to_owned(),
        duration_us: micros(duration),
        mem_used_before: before.mm.mem_used_total,
        mem_used_after: after.mm.mem_used_total,
        mem_total_before: before.memory.mem_total,
        mem_total_after: after.memory.mem_total,
    }
}

/// Compacts objects and retries while another thread compacts; returns the sum of its own attempts.
fn objects(disk: &Zram, rest: impl Fn() -> Budget) -> Compaction {
    let start = Instant::now();
    let mut sum = Compaction::default();
    loop {
        let done = disk.compact(&rest());
        sum.objects_moved += done.objects_moved;
        sum.bytes_moved += done.bytes_moved;
        sum.frames_freed += done.frames_freed;
        sum.zspages_freed += done.zspages_freed;
        sum.skipped += done.skipped;
        sum.outcome = done.outcome;
        if done.outcome != CompactionOutcome::AlreadyRunning || start.elapsed() > BUSY_TIMEOUT {
            return sum;
        }
        std::thread::sleep(RETRY_DELAY);
    }
}

/// Compacts frames and retries as [`objects`] does; an attempt that meets another compaction does
/// nothing.
fn frames(disk: &Zram, rest: impl Fn() -> Budget) -> FrameCompaction {
    let start = Instant::now();
    loop {
        let budget = rest();
        let done = disk.compact_frames(&budget);
        if done.outcome != frames::CompactOutcome::AlreadyRunning || start.elapsed() > BUSY_TIMEOUT
        {
            return done;
        }
        if budget.start().has_passed() {
            return FrameCompaction { outcome: frames::CompactOutcome::OutOfTime, ..done };
        }
        std::thread::sleep(RETRY_DELAY);
    }
}

/// Outcome of a compaction; the worse outcome is the larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct OutcomeText(u8, &'static str);

const DONE: OutcomeText = OutcomeText(0, "done");
const OUT_OF_TIME: OutcomeText = OutcomeText(1, "out of time");
const ALREADY_RUNNING: OutcomeText = OutcomeText(2, "already running");

fn object_outcome(outcome: CompactionOutcome) -> OutcomeText {
    match outcome {
        CompactionOutcome::Done => DONE,
        CompactionOutcome::OutOfTime => OUT_OF_TIME,
        CompactionOutcome::AlreadyRunning => ALREADY_RUNNING,
    }
}

fn frame_outcome(outcome: frames::CompactOutcome) -> OutcomeText {
    match outcome {
        frames::CompactOutcome::Done | frames::CompactOutcome::Reached => DONE,
        // A compaction of the whole zone is never skipped or deferred.
        frames::CompactOutcome::Skipped
        | frames::CompactOutcome::Deferred
        | frames::CompactOutcome::NoSuitable => DONE,
        frames::CompactOutcome::OutOfTime => OUT_OF_TIME,
        frames::CompactOutcome::AlreadyRunning => ALREADY_RUNNING,
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}
