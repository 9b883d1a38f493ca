//! `memzip doctor`: what this host allows, what that means, and what to do about it.
//!
//! Every line is tried or read here and now, nothing is guessed from a version number.

mod host;
mod needs;

use std::fmt;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// All is well.
    Good,
    /// memzip runs, but less well than it could, or something beside it is missing.
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

/// One thing looked at.
#[derive(Clone, Debug)]
struct Finding {
    verdict: Verdict,
    name: &'static str,
    /// What was seen.
    seen: String,
    /// What it means for memzip.
    meaning: &'static str,
    /// What to do; empty when there is nothing to do.
    remedy: String,
}

impl Finding {
    fn good(name: &'static str, seen: impl Into<String>, meaning: &'static str) -> Self {
        Self { verdict: Verdict::Good, name, seen: seen.into(), meaning, remedy: String::new() }
    }

    fn note(
        name: &'static str,
        seen: impl Into<String>,
        meaning: &'static str,
        remedy: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Note, name, seen: seen.into(), meaning, remedy: remedy.into() }
    }

    fn fatal(
        name: &'static str,
        seen: impl Into<String>,
        meaning: &'static str,
        remedy: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Fatal, name, seen: seen.into(), meaning, remedy: remedy.into() }
    }
}

/// Everything looked at; it prints as the report.
#[derive(Clone, Debug)]
pub(crate) struct Examination {
    findings: Vec<Finding>,
}

impl Examination {
    /// Looks at this host.
    pub(crate) fn run() -> Self {
        let mut findings = needs::all();
        findings.extend(host::all());
        Self { findings }
    }

    /// Whether memzip can run here.
    pub(crate) fn is_fit(&self) -> bool {
        self.findings.iter().all(|finding| finding.verdict != Verdict::Fatal)
    }
}

impl fmt::Display for Examination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "memzip {} on Linux {}, {} CPUs\n",
            env!("CARGO_PKG_VERSION"),
            sys::host::kernel_release(),
            sys::host::cpus()
        )?;
        let width = self.findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
        for Finding { verdict, name, seen, meaning, remedy } in &self.findings {
            writeln!(f, "  {verdict:<4}  {name:<width$}  {seen}")?;
            writeln!(f, "        {:<width$}  {meaning}", "")?;
            if !remedy.is_empty() {
                writeln!(f, "        {:<width$}  remedy: {remedy}", "")?;
            }
        }
        let notes = self.findings.iter().filter(|finding| finding.verdict == Verdict::Note).count();
        match (self.is_fit(), notes) {
            (true, 0) => writeln!(f, "\nmemzip runs here, and nothing is missing."),
            (true, _) => {
                writeln!(
                    f,
                    "\nmemzip runs here; lines marked \"note\" ({notes}) could be better or are good to know."
                )
            }
            (false, _) => {
                writeln!(f, "\nmemzip cannot run here until what is marked FAIL is put right.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_says_what_it_means_and_whatever_is_not_well_has_a_remedy() {
        let examination = Examination::run();
        for finding in &examination.findings {
            assert!(!finding.seen.is_empty() && !finding.meaning.is_empty(), "{finding:?}");
            assert_eq!(finding.remedy.is_empty(), finding.verdict == Verdict::Good, "{finding:?}");
        }
        let text = examination.to_string();
        for subject in ["huge pages", "memfd", "userfaultfd", "io_uring", "KVM", "kernel zram"] {
            assert!(text.contains(subject), "{subject} is missing from\n{text}");
        }
        assert!(text.is_ascii());
    }

    #[test]
    fn one_fatal_finding_is_enough_to_be_unfit() {
        let mut examination = Examination { findings: vec![Finding::note("a", "b", "c", "d")] };
        assert!(examination.is_fit());
        examination.findings.push(Finding::fatal("e", "f", "g", "h"));
        assert!(!examination.is_fit());
        assert!(examination.to_string().contains("FAIL"));
    }
}
