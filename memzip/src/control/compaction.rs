//! One compaction on demand: of objects, of frames, or of both within one budget.

use std::time::{Duration, Instant};

use frames::CompactOutcome;
use zram::{Compaction, FrameCompaction, Zram};
use zsmalloc::{Budget, CompactionOutcome};

use super::change_json::{CompactReport, CompactRequest, PartReport};
use crate::durations::{micros, timed};

/// Time to wait for a compaction by another thread; the background works in slices of milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Delay between two attempts.
const RETRY_DELAY: Duration = Duration::from_millis(2);

/// Compacts objects into full zspages, then frames into full 2 MiB blocks, as far as requested.
pub(super) fn run(disk: &Zram, request: CompactRequest, budget: Duration) -> CompactReport {
    let before = disk.stat();
    let start = Instant::now();
    let rest = || Budget::within(budget.saturating_sub(start.elapsed()));
    // Frames come second: object compaction frees frames that then need no move.
    let objects = request.objects.then(|| timed(|| objects(disk, rest)));
    let frames = request.frames.then(|| timed(|| frames(disk, rest)));
    let duration = start.elapsed();
    let after = disk.stat();
    // The worse outcome is that of the whole.
    let object_part = objects.map(|(done, time)| (done.outcome, time));
    let frame_part = frames.map(|(done, time)| (same_for_objects(done.outcome), time));
    let worse = object_part.max(frame_part).map_or(CompactionOutcome::Done, |(outcome, _)| outcome);
    let part = |(outcome, time)| PartReport { outcome: text(outcome), duration_us: micros(time) };
    CompactReport {
        objects: object_part.map(part),
        frames: frame_part.map(part),
        object_work: objects.unwrap_or_default().0,
        frame_work: frames.unwrap_or_default().0,
        outcome: text(worse),
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
        if done.outcome != CompactOutcome::AlreadyRunning || start.elapsed() > BUSY_TIMEOUT {
            return done;
        }
        if budget.start().has_passed() {
            return FrameCompaction { outcome: CompactOutcome::OutOfTime, ..done };
        }
        std::thread::sleep(RETRY_DELAY);
    }
}

fn same_for_objects(outcome: CompactOutcome) -> CompactionOutcome {
    match outcome {
        CompactOutcome::OutOfTime => CompactionOutcome::OutOfTime,
        CompactOutcome::AlreadyRunning => CompactionOutcome::AlreadyRunning,
        // Done: a compaction of the whole zone is never skipped or deferred.
        _ => CompactionOutcome::Done,
    }
}

fn text(outcome: CompactionOutcome) -> String {
    let text = match outcome {
        CompactionOutcome::Done => "done",
        CompactionOutcome::OutOfTime => "out of time",
        CompactionOutcome::AlreadyRunning => "already running",
    };
    text.to_owned()
}
