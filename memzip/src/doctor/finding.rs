//! The result of one check.

use std::fmt;

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is wrong.
    Good,
    /// memzip runs, but worse than it could, or an optional feature is missing.
    Note,
    /// memzip cannot run.
    Fatal,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Fatal => "FAIL",
        })
    }
}

/// The result of one check.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    pub(super) name: &'static str,
    /// What the check found.
    pub(super) seen: String,
    /// What it means for memzip.
    pub(super) meaning: &'static str,
    /// How to fix it; empty if nothing is wrong.
    pub(super) remedy: String,
}

impl Finding {
    pub(super) fn good(name: &'static str, seen: impl Into<String>, meaning: &'static str) -> Self {
        Self { verdict: Verdict::Good, name, seen: seen.into(), meaning, remedy: String::new() }
    }

    pub(super) fn note(
        name: &'static str,
        seen: impl Into<String>,
        meaning: &'static str,
        remedy: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Note, name, seen: seen.into(), meaning, remedy: remedy.into() }
    }

    pub(super) fn fatal(
        name: &'static str,
        seen: impl Into<String>,
        meaning: &'static str,
        remedy: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Fatal, name, seen: seen.into(), meaning, remedy: remedy.into() }
    }
}
