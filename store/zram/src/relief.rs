//! Room at the limit: object compaction is tried before a write is refused, and not again while it cannot help.

use std::time::Duration;

use sync::Mutex;
use zsmalloc::{Budget, Compaction, Pool};

/// How long a write may wait for a compaction. Long enough to move some ten thousand objects, short enough for a client's time limit.
const BUDGET: Duration = Duration::from_millis(20);

/// Remembers whether compaction can still help.
///
/// Locking: one mutex, held while compacting: writers that reach the limit together wait for one compaction instead of each starting one.
#[derive(Debug)]
pub(crate) struct Relief {
    /// How many objects had been freed when compaction last freed nothing.
    in_vain_at: Mutex<Option<u64>>,
}

impl Relief {
    pub(crate) fn new() -> Self {
        Self { in_vain_at: Mutex::new(None) }
    }

    /// Compacts, unless nothing was freed since that was last in vain. `freed` counts the objects freed so far. `None` when it was not tried.
    pub(crate) fn seek(&self, pool: &Pool, freed: impl Fn() -> u64) -> Option<Compaction> {
        let mut in_vain_at = self.in_vain_at.lock();
        let before = freed();
        if *in_vain_at == Some(before) {
            return None;
        }
        let report = pool.compact(&Budget::within(BUDGET));
        let finished = report.outcome == zsmalloc::Outcome::Done && report.skipped == 0;
        *in_vain_at = (report.frames_freed == 0 && finished).then_some(before);
        Some(report)
    }
}
