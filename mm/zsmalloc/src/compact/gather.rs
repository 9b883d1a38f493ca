//! Gathering: the pool's frames move down in the arena.

use frames::Gathered;

use crate::pool::Pool;
use crate::{Budget, Outcome};

/// What a gathering did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gathering {
    /// Frames that have a new place.
    pub frames_moved: u64,
    /// Frames passed over because somebody was inside their zspage.
    pub frames_busy: u64,
    /// How it ended.
    pub outcome: Outcome,
}

impl Pool {
    /// Gathering: moves frames of this pool down in the arena, so that whole 2 MiB blocks become free and go back to the OS. Worth it after
    /// [`Pool::compact`], which frees frames wherever they are.
    ///
    /// Locking: one zspage at a time, tried; its readers are passed over.
    pub fn gather(&self, budget: &Budget) -> Gathering {
        let mut report = Gathering::default();
        let Some(_single) = self.gathering.try_lock() else {
            report.outcome = Outcome::AlreadyRunning;
            return report;
        };
        let deadline = budget.start();
        let mut gather = self.zspages.extents().gather();
        loop {
            if deadline.has_passed() {
                report.outcome = Outcome::OutOfTime;
                return report;
            }
            match gather.step() {
                Some(Gathered::Moved { extent, leaving }) => {
                    report.frames_moved += 1;
                    self.leave(extent, leaving);
                }
                Some(Gathered::Busy) => report.frames_busy += 1,
                None => return report,
            }
        }
    }
}
