//! `memzip doctor`: checks what this host provides, what that means, and how to fix it.
//!
//! Every check tries or reads the feature itself; none guesses from a version number.

mod finding;
mod host;
mod needs;

use std::fmt;

use finding::{Finding, Verdict};

/// The results of all checks; it prints as the report.
#[derive(Clone, Debug)]
pub(crate) struct Examination {
    /// The subjects of the checks and their results.
    findings: Vec<(&'static str, Finding)>,
}

impl Examination {
    /// Runs all checks.
    pub(crate) fn run() -> Self {
        Self { findings: needs::all().into_iter().chain(host::all()).collect() }
    }

    /// Returns whether memzip can run here.
    pub(crate) fn is_fit(&self) -> bool {
        self.findings.iter().all(|(_, finding)| finding.verdict != Verdict::Fatal)
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
        let width = self.findings.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, Finding { verdict, seen, meaning, remedy }) in &self.findings {
            writeln!(f, "  {:<4}  {name:<width$}  {seen}", verdict.word())?;
            writeln!(f, "        {:<width$}  {meaning}", "")?;
            if !remedy.is_empty() {
                writeln!(f, "        {:<width$}  remedy: {remedy}", "")?;
            }
        }
        let is_note = |(_, finding): &&(_, Finding)| finding.verdict == Verdict::Note;
        let summary = match (self.is_fit(), self.findings.iter().filter(is_note).count()) {
            (true, 0) => "runs here, and nothing is missing.".to_owned(),
            (true, notes) => {
                format!("runs here; {notes} lines marked \"note\" show what could be better.")
            }
            (false, _) => "cannot run here until the lines marked FAIL are fixed.".to_owned(),
        };
        writeln!(f, "\nmemzip {summary}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_has_a_meaning_and_problems_a_remedy() {
        let examination = Examination::run();
        for (_, finding) in &examination.findings {
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
    fn one_fatal_finding_makes_the_host_unfit() {
        let mut examination = Examination { findings: vec![("a", Finding::note("b", "c", "d"))] };
        assert!(examination.is_fit());
        examination.findings.push(("e", Finding::fatal("f", "g", "h")));
        assert!(!examination.is_fit());
        assert!(examination.to_string().contains("FAIL"));
    }
}
