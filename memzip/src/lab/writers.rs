//! A recording of parallel writers, so that the same fill can be repeated exactly.

use std::ops::Range;

use anyhow::Result;
use parking_lot::Mutex;

use super::disk::Disk;

/// Runs of pages in the order in which parallel writers wrote them.
#[derive(Debug)]
pub(super) struct Recording(Vec<Range<usize>>);

impl Recording {
    /// Fills equal parts of the disk from `parts` threads, `run` pages at a time, and records the
    /// order of the writes.
    ///
    /// # Errors
    /// A write fails.
    pub(super) fn of_a_fill(disk: &mut Disk<'_>, parts: usize, run: usize) -> Result<Self> {
        let (each, turns) = (disk.len() / parts, Mutex::new(Vec::new()));
        let this = &*disk;
        std::thread::scope(|scope| {
            let writer = |part: usize| {
                scope.spawn({
                    let turns = &turns;
                    move || write_part(this, part * each..(part + 1) * each, run, turns)
                })
            };
            let writers: Vec<_> = (0..parts).map(writer).collect();
            writers.into_iter().try_for_each(|writer| match writer.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
        disk.note_fill(each * parts);
        Ok(Self(turns.into_inner()))
    }

    /// Repeats the fill on another disk, in the same order on this thread, and calls `after` with
    /// each run.
    ///
    /// # Errors
    /// A write or `after` fails.
    pub(super) fn replay(
        &self,
        disk: &mut Disk<'_>,
        mut after: impl FnMut(Range<usize>) -> Result<()>,
    ) -> Result<()> {
        let mut end = 0;
        for run in &self.0 {
            disk.write_run(run.clone())?;
            after(run.clone())?;
            end = end.max(run.end);
        }
        disk.note_fill(end);
        Ok(())
    }
}

fn write_part(
    disk: &Disk<'_>,
    part: Range<usize>,
    run: usize,
    turns: &Mutex<Vec<Range<usize>>>,
) -> Result<()> {
    for start in part.clone().step_by(run) {
        let run = start..part.end.min(start + run);
        disk.write_run(run.clone())?;
        turns.lock().push(run);
        // Writers take turns as they do on a real disk, so that none finishes in one go.
        std::thread::yield_now();
    }
    Ok(())
}
