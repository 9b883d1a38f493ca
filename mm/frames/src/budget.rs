//! How long a compaction may run.

use std::time::{Duration, Instant};

/// A bound on the time a compaction takes. The clock is read after every object or frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    total: Option<Duration>,
}

impl Budget {
    /// Until nothing is left to gain.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { total: None }
    }

    /// No longer than `total`, by the clock on the wall. Zero moves nothing.
    #[must_use]
    pub fn within(total: Duration) -> Self {
        Self { total: Some(total) }
    }

    /// Starts the clock.
    #[must_use]
    pub fn start(self) -> Deadline {
        // A duration past the end of the clock is no bound.
        Deadline { at: self.total.and_then(|total| Instant::now().checked_add(total)) }
    }
}

/// A budget that is running.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Option<Instant>,
}

impl Deadline {
    /// What is left of it.
    #[must_use]
    pub fn remaining(self) -> Budget {
        Budget { total: self.at.map(|at| at.saturating_duration_since(Instant::now())) }
    }

    /// Ends when a third of what is left has passed: for work that may have to be undone, which takes longer than doing it.
    pub(crate) fn third(self) -> Self {
        let now = Instant::now();
        Self { at: self.at.map(|at| now + at.saturating_duration_since(now) / 3) }
    }

    /// Whether the time is ever up.
    pub(crate) fn is_bounded(self) -> bool {
        self.at.is_some()
    }

    /// Whether the time is up.
    #[must_use]
    pub fn has_passed(self) -> bool {
        self.at.is_some_and(|at| Instant::now() >= at)
    }
}
