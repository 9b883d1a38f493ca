//! The result of one check.

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

impl Verdict {
    /// Returns the word in front of the finding.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Fatal => "FAIL",
        }
    }
}

/// The result of one check.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    /// What the check found.
    pub(super) seen: String,
    /// What it means for memzip.
    pub(super) meaning: &'static str,
    /// How to fix it; empty if nothing is wrong.
    pub(super) remedy: String,
}

impl Finding {
    pub(super) fn good(seen: impl Into<String>, meaning: &'static str) -> Self {
        Self { verdict: Verdict::Good, seen: seen.into(), meaning, remedy: String::new() }
    }

    pub(super) fn note<S: Into<String>>(seen: S, meaning: &'static str, remedy: &str) -> Self {
        Self { verdict: Verdict::Note, remedy: remedy.to_owned(), ..Self::good(seen, meaning) }
    }

    pub(super) fn fatal<S: Into<String>>(seen: S, meaning: &'static str, remedy: &str) -> Self {
        Self { verdict: Verdict::Fatal, ..Self::note(seen, meaning, remedy) }
    }
}
