//! A recording of parallel writers, so that the same fill can be repeated exactly.

use std::ops::Range;

use anyhow::Result;
use parking_lot::Mutex;

use super::disk::Disk;

/// Runs of pages in the order in which parallel writers wrote them.
#[derive(Debug)]
pub(super) struct Recording(Vec<Range<usize>>);

impl Recording {
    /// Fills the disk from `parts` threads, `run` pages at a time, and records the order.
    ///
    /// # Errors
    /// A write fails.
    pub(super) fn of_a_fill(disk: &Disk<'_>, parts: usize, run: usize) -> Result<Self> {
        let (each, turns) = (disk.len() / parts, Mutex::new(Vec::new()));
        let write = |part: usize| write_part(disk, part * each..(part + 1) * each, run, &turns);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..parts).map(|part| scope.spawn(move || write(part))).collect();
            writers.into_iter().try_for_each(|writer| {
                writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })?;
        Ok(Self(turns.into_inner()))
    }

    /// Repeats the fill on another disk in the same order and calls `after` with each run.
    ///
    /// # Errors
    /// A write or `after` fails.
    pub(super) fn replay(
        &self,
        disk: &mut Disk<'_>,
        mut after: impl FnMut(Range<usize>) -> Result<()>,
    ) -> Result<()> {
        for run in &self.0 {
            disk.write_run(run.clone())?;
            disk.note_run(run.clone());
            after(run.clone())?;
        }
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
