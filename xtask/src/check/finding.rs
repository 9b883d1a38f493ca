//! What a rule finds.

use crate::tree::Source;

/// A violation of a rule.
pub(crate) struct Finding {
    /// The place, as `path:line` or a name.
    pub place: String,
    /// What is wrong, and the remedy.
    pub problem: String,
}

impl Finding {
    /// Creates a finding in line `line` (from 1) of a file.
    pub(crate) fn at(source: &Source, line: usize, problem: impl Into<String>) -> Self {
        Finding { place: format!("{}:{line}", source.path.display()), problem: problem.into() }
    }

    /// Creates a finding about a whole file, package or name.
    pub(crate) fn about(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Finding { place: place.into(), problem: problem.into() }
    }
}
