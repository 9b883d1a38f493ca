//! Parses the output of `cargo test -- --show-output`: counts, and tests that skipped.
//!
//! libtest has no skipped state, so a test that cannot run here prints `SKIPPED: <what is missing>`
//! and returns. libtest counts it as passed. This parser subtracts such tests from the passed ones
//! and keeps their reasons for the list at the end.

/// Start of the reason of an ignored test that only measures and is run by hand.
const MEASURES: &str = "measures";

/// Start of the line of `sync::model` about a search that a limit ended.
const CUT_OFF: &str = "CUT OFF:";

/// A test that skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skip {
    /// The test's name.
    pub test: String,
    /// The reason that it printed.
    pub reason: String,
}

/// The state of the parser, and the counts so far.
#[derive(Default, Debug)]
pub(crate) struct Reader {
    section: Section,
    test: String,
    /// Skipped tests of this binary, which libtest counts as passed.
    skipped_here: u64,
    /// Number of tests that passed.
    pub passed: u64,
    /// Number of tests that failed.
    pub failed: u64,
    /// Tests that skipped.
    pub skips: Vec<Skip>,
    /// Models whose search a limit ended, with the limit.
    pub cut_off: Vec<Skip>,
    /// Names of the failed tests.
    pub failures: Vec<String>,
}

#[derive(Default, Debug, PartialEq, Eq)]
enum Section {
    #[default]
    Lines,
    /// The output of passed tests, which is hidden except for skips.
    Successes,
    /// The output of failed tests, which is shown.
    Failures,
}

/// Whether to print a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// Print it.
    Yes,
    /// Hide it.
    No,
}

impl Reader {
    /// Parses a line of output and returns whether to print it.
    pub(crate) fn line(&mut self, line: &str) -> Show {
        match line {
            "successes:" => self.section = Section::Successes,
            "failures:" => self.section = Section::Failures,
            _ => return self.body(line),
        }
        Show::No
    }

    fn body(&mut self, line: &str) -> Show {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.section = Section::Lines;
            self.passed +=
                count(counts, " passed").saturating_sub(std::mem::take(&mut self.skipped_here));
            self.failed += count(counts, " failed");
            return Show::Yes;
        }
        if let Some(name) =
            line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            self.test = name.to_owned();
        }
        // Skips and cut-off models are found in the output of every section.
        if let Some(reason) = line.trim_start().strip_prefix("SKIPPED:") {
            self.skip(reason.trim());
        }
        if let Some(after) = line.trim_start().strip_prefix(CUT_OFF) {
            self.cut_off.push(Skip { test: self.test.clone(), reason: after.trim().to_owned() });
        }
        match self.section {
            Section::Lines => self.outcome(line),
            Section::Successes => Show::No,
            Section::Failures => Show::Yes,
        }
    }

    fn skip(&mut self, reason: &str) {
        // The name is taken, so a second line of the same test is not another skip.
        let test = std::mem::take(&mut self.test);
        if !test.is_empty() {
            self.skipped_here += 1;
            self.skips.push(Skip { test, reason: reason.to_owned() });
        }
    }

    /// Parses `test name ... ok`, `... FAILED` or `... ignored, reason`.
    fn outcome(&mut self, line: &str) -> Show {
        let Some((name, outcome)) =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        else {
            return if line.is_empty() || line.starts_with("running ") {
                Show::No
            } else {
                Show::Yes
            };
        };
        if outcome.starts_with("FAILED") {
            self.failures.push(name.to_owned());
        }
        if let Some(reason) = outcome.strip_prefix("ignored") {
            let reason = reason.trim_start_matches(", ");
            // A test that only measures is not a skip.
            if reason.starts_with(MEASURES) {
                return Show::No;
            }
            let reason = if reason.is_empty() { "marked #[ignore]" } else { reason };
            self.skips.push(Skip { test: name.to_owned(), reason: reason.to_owned() });
        }
        Show::Yes
    }
}

/// Returns the number before `word` in `ok. 3 passed; 0 failed; ...`.
fn count(counts: &str, word: &str) -> u64 {
    let before = counts.split(word).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 5 tests
test a::holds ... ok
test a::needs_fio ... ok
test a::breaks ... FAILED
test a::slow ... ignored, takes an hour
test a::speed ... ignored, measures how fast it is

successes:

---- a::needs_fio stdout ----
SKIPPED: fio is not installed
SKIPPED: really


successes:
    a::holds
    a::needs_fio

failures:

---- a::breaks stdout ----
assertion failed: left == right

failures:
    a::breaks

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s";

    #[test]
    fn a_skipped_test_is_not_counted_as_passed() {
        let mut reader = Reader::default();
        OUTPUT.lines().for_each(|line| _ = reader.line(line));
        assert_eq!((reader.passed, reader.failed, reader.skips.len()), (1, 1, 2));
        assert_eq!(reader.failures, ["a::breaks"]);
        let fio =
            Skip { test: "a::needs_fio".to_owned(), reason: "fio is not installed".to_owned() };
        assert!(reader.skips.contains(&fio));
    }

    #[test]
    fn a_model_that_was_cut_off_is_listed() {
        let output = "successes:\n\n---- a::loom_tests::b stdout ----\nCUT OFF: after 60 s and 4095 schedules\n\
                      \n---- a::loom_tests::c stdout ----\nall 812 schedules with 2 preemptions\n\nsuccesses:\n\
                      test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        let mut reader = Reader::default();
        output.lines().for_each(|line| _ = reader.line(line));
        let cut = Skip {
            test: "a::loom_tests::b".into(),
            reason: "after 60 s and 4095 schedules".into(),
        };
        assert_eq!((reader.passed, reader.cut_off), (2, vec![cut]));
    }

    #[test]
    fn only_output_of_failed_tests_is_shown() {
        let mut reader = Reader::default();
        let shown: Vec<&str> =
            OUTPUT.lines().filter(|line| reader.line(line) == Show::Yes).collect();
        assert!(shown.contains(&"assertion failed: left == right"));
        assert!(!shown.contains(&"SKIPPED: fio is not installed"));
    }
}
