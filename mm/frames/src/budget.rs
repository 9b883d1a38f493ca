//! The time that a compaction may take.

use std::time::{Duration, Instant};

/// A bound on the time a compaction takes. The clock is read after every object or frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    total: Option<Duration>,
}

impl Budget {
    /// Returns a budget without a bound: the compaction ends when nothing is left to gain.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { total: None }
    }

    /// Returns a budget of `total`, measured as elapsed time. A budget of zero moves nothing.
    #[must_use]
    pub fn within(total: Duration) -> Self {
        Self { total: Some(total) }
    }

    /// Starts the clock.
    #[must_use]
    pub fn start(self) -> Deadline {
        // A duration that the clock cannot represent is no bound.
        Deadline { at: self.total.and_then(|total| Instant::now().checked_add(total)) }
    }
}

/// The end of a running budget.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Option<Instant>,
}

impl Deadline {
    /// Returns the time that is left, as a budget.
    #[must_use]
    pub fn remaining(self) -> Budget {
        Budget { total: self.at.map(|at| at.saturating_duration_since(Instant::now())) }
    }

    /// Returns the deadline at a third of the time left: for work whose undoing takes longer.
    pub(crate) fn third(self) -> Self {
        let now = Instant::now();
        Self { at: self.at.map(|at| now + at.saturating_duration_since(now) / 3) }
    }

    pub(crate) fn is_bounded(self) -> bool {
        self.at.is_some()
    }

    /// Returns whether the time is up.
    #[must_use]
    pub fn has_passed(self) -> bool {
        self.at.is_some_and(|at| Instant::now() >= at)
    }
}
