//! Eight writers at once, and the order they came in, so that the same fill can be repeated
//! exactly.

use std::ops::Range;
use std::sync::Mutex;

use anyhow::Result;

use super::disk::Disk;

/// Who wrote when: runs of pages in the order in which they were written.
#[derive(Debug)]
pub(super) struct Recording(Vec<Range<usize>>);

impl Recording {
    /// Has `parts` threads fill equal parts of the disk with the pages in their order, `run` pages
    /// at a time, and records their turns.
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
        Ok(Self(turns.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)))
    }

    /// Repeats the fill on another disk, in the same order and on this thread. `after` is called
    /// with each run.
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
        turns.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(run);
        // Writers take turns, as they do where a disk is behind them: none runs to its end in one
        // go.
        std::thread::yield_now();
    }
    Ok(())
}
