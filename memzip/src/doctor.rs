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
    findings: Vec<Finding>,
}

impl Examination {
    /// Runs all checks.
    pub(crate) fn run() -> Self {
        let mut findings = needs::all();
        findings.extend(host::all());
        Self { findings }
    }

    /// Returns whether memzip can run here.
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
                    "\nmemzip runs here; {notes} lines marked \"note\" show what could be better."
                )
            }
            (false, _) => {
                writeln!(f, "\nmemzip cannot run here until the lines marked FAIL are fixed.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_has_a_meaning_and_problems_a_remedy() {
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
    fn one_fatal_finding_makes_the_host_unfit() {
        let mut examination = Examination { findings: vec![Finding::note("a", "b", "c", "d")] };
        assert!(examination.is_fit());
        examination.findings.push(Finding::fatal("e", "f", "g", "h"));
        assert!(!examination.is_fit());
        assert!(examination.to_string().contains("FAIL"));
    }
}
