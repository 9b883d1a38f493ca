//! `cargo xtask mutants`: removes each guard against a race and requires the guard's test to fail.
//!
//! A mutant is a patch in `xtask/mutants` with a header that names the test. It is applied to a
//! private copy of the working tree, never to the tree itself. The mutant is caught when the test
//! passes without the patch, fails with it, and prints what the header expects. Anything else is an
//! error: a patch that does not apply or compile, an unknown test, a failure for another reason.

mod copy;
mod patch;
mod test_run;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use copy::Copy;
use patch::{Expected, Mutant};
use test_run::{TEST_TIMEOUT, TestOutcome, TestRun};

pub(crate) use patch::{Kind, Test};

/// Options of `cargo xtask mutants`.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Only mutants whose names contain one of these
    pub names: Vec<String>,
    /// Only list the mutants
    #[arg(long)]
    list: bool,
    /// Only mutants that a plain test catches, without loom or shuttle
    #[arg(long)]
    fast: bool,
}

/// Returns the folder of the patches.
fn folder() -> PathBuf {
    shell::root().join("xtask").join("mutants")
}

/// Returns the mutants whose patches no longer apply to the working tree, each with git's message.
pub(crate) fn stale() -> Result<Vec<(String, String)>> {
    let mutants = patch::read_all(&folder())?;
    let problem =
        |mutant: &Mutant| copy::git_apply(shell::root(), &["--check"], &mutant.patch).err();
    Ok(mutants
        .iter()
        .filter_map(|mutant| Some((mutant.name.clone(), problem(mutant)?.to_string())))
        .collect())
}

/// Returns the tests that must fail, each with the name of its mutant.
pub(crate) fn tests() -> Result<Vec<(String, Test)>> {
    let mutants = patch::read_all(&folder())?;
    Ok(mutants
        .iter()
        .flat_map(|mutant| mutant.tests().map(|test| (mutant.name.clone(), test.clone())))
        .collect())
}

/// Tries the mutants. Progress goes to standard error, the results to standard output.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mutants = chosen(args)?;
    if args.list {
        mutants.iter().for_each(|mutant| println!("{:<34} {}", mutant.name, mutant.guard));
        return Ok(());
    }
    let copy = Copy::refresh().context("cannot copy the working tree")?;
    check_unchanged(&copy, &mutants)?;
    let mut rows = Vec::new();
    for mutant in &mutants {
        eprintln!("\n==== mutant {}: without {} ====", mutant.name, mutant.guard);
        let start = Instant::now();
        let verdict = try_mutant(&copy, mutant)?;
        eprintln!("{}", verdict.text());
        rows.push((mutant, verdict, start.elapsed()));
    }
    report(&rows)
}

/// Returns the chosen mutants, ordered so that neighbours build the same packages.
fn chosen(args: &Args) -> Result<Vec<Mutant>> {
    let mut mutants = patch::read_all(&folder())?;
    mutants.retain(|mutant| {
        let named = args.names.is_empty()
            || args.names.iter().any(|name| mutant.name.contains(name.as_str()));
        let plain = mutant.tests().all(|test| test.kind == Kind::Plain);
        named && (plain || !args.fast)
    });
    if mutants.is_empty() {
        bail!("no mutant has such a name; `cargo xtask mutants --list` lists them");
    }
    mutants
        .sort_by_key(|mutant| mutant.tests().map(|test| (test.kind, test.package.clone())).min());
    Ok(mutants)
}

/// Checks that every test of the headers exists and passes without a mutant.
fn check_unchanged(copy: &Copy, mutants: &[Mutant]) -> Result<()> {
    eprintln!("==== without any mutant ====");
    let tests: BTreeSet<&Test> = mutants.iter().flat_map(Mutant::tests).collect();
    for test in tests {
        match TestRun::of(copy, test)?.run(TEST_TIMEOUT)? {
            TestOutcome::Passed => eprintln!("holds: {test}"),
            TestOutcome::Failed { .. } => bail!("{test} fails although nothing was changed"),
            TestOutcome::TimedOut => bail!("{test} does not end although nothing was changed"),
            TestOutcome::NoSuchTest => bail!("{test} does not exist"),
        }
    }
    Ok(())
}

/// The result of a mutant.
#[derive(Debug)]
enum Verdict {
    /// A test failed with this expected line.
    Caught(String),
    Survived(String),
    Error(String),
}

impl Verdict {
    fn text(&self) -> String {
        match self {
            Verdict::Caught(said) => format!("caught: {said}"),
            Verdict::Survived(why) => format!("SURVIVED: {why}"),
            Verdict::Error(why) => format!("ERROR: {why}"),
        }
    }
}

/// Applies a patch, runs its tests and reverts it.
fn try_mutant(copy: &Copy, mutant: &Mutant) -> Result<Verdict> {
    if let Err(error) = copy.apply(&mutant.patch) {
        return Ok(Verdict::Error(format!("{error:#}")));
    }
    let verdict =
        run_tests(copy, mutant).unwrap_or_else(|error| Verdict::Error(format!("{error:#}")));
    copy.restore(&mutant.patch)?;
    Ok(verdict)
}

/// Runs the tests of a mutant. All must catch it; the first that does not decides.
fn run_tests(copy: &Copy, mutant: &Mutant) -> Result<Verdict> {
    let mut all = Vec::new();
    for expected in &mutant.expected {
        let outcome =
            TestRun::of(copy, &expected.test)?.run(mutant.may_hang.unwrap_or(TEST_TIMEOUT))?;
        match judge(mutant, expected, &outcome) {
            Verdict::Caught(said) => all.push(said),
            other => return Ok(other),
        }
    }
    Ok(Verdict::Caught(all.join("; ")))
}

fn judge(mutant: &Mutant, expected: &Expected, outcome: &TestOutcome) -> Verdict {
    let Expected { test, finds } = expected;
    match outcome {
        TestOutcome::Failed { said } => {
            // A failure counts only with one of the expected texts.
            match finds.iter().find_map(|expected| line_with(said, expected)) {
                Some(line) => Verdict::Caught(line),
                None => Verdict::Error(format!(
                    "{test} failed for another reason than `{}`:\n{}",
                    finds.join("` or `"),
                    end_of(said)
                )),
            }
        }
        TestOutcome::TimedOut if mutant.may_hang.is_some() => {
            Verdict::Caught("the test does not end".to_owned())
        }
        TestOutcome::TimedOut => {
            Verdict::Error(format!("{test} did not end, and the patch has no `hang:` field"))
        }
        TestOutcome::Passed => Verdict::Survived(format!("{test} passes without the guard")),
        TestOutcome::NoSuchTest => Verdict::Error(format!("{test} does not exist")),
    }
}

/// Returns the line that contains `expected`, with the next one: a panic's message is on it.
fn line_with(said: &str, expected: &str) -> Option<String> {
    let mut lines = said.lines().skip_while(|line| !line.contains(expected));
    let first = lines.next()?.trim();
    Some(format!("{first} {}", lines.next().unwrap_or_default().trim()))
}

/// Returns the last lines without backtraces, which would displace the panic message.
fn end_of(said: &str) -> String {
    let is_of_backtrace = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("at ")
            || line.split_once(": ").is_some_and(|(number, _)| number.parse::<u32>().is_ok())
    };
    let lines: Vec<&str> = said.lines().filter(|line| !is_of_backtrace(line)).collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// Prints the table. Returns an error unless all mutants were caught.
fn report(rows: &[(&Mutant, Verdict, Duration)]) -> Result<()> {
    println!("{:<34} {:<9} {:>5}  guard", "mutant", "", "s");
    for (mutant, verdict, time) in rows {
        let word = match verdict {
            Verdict::Caught(_) => "caught",
            Verdict::Survived(_) => "SURVIVED",
            Verdict::Error(_) => "ERROR",
        };
        println!("{:<34} {word:<9} {:>5}  {}", mutant.name, time.as_secs(), mutant.guard);
    }
    let caught =
        rows.iter().filter(|(_, verdict, _)| matches!(verdict, Verdict::Caught(_))).count();
    let time: Duration = rows.iter().map(|(.., time)| *time).sum();
    println!("{caught} of {} mutants caught, in {} s", rows.len(), time.as_secs());
    if caught < rows.len() {
        bail!("{} mutants were not caught", rows.len() - caught);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_end_of_an_output_has_no_backtrace() {
        let trace: String = (0..40).map(|n| format!("  {n}: f\n      at /x.rs:1\n")).collect();
        assert_eq!(
            end_of(&format!("panicked\n  twice\n{trace}FAILED")),
            "panicked\n  twice\nFAILED"
        );
    }

    #[test]
    fn only_the_expected_failure_catches_a_mutant() {
        let text = "guard: g\nwhy: w\npackage: p\nkind: test\ntest: a::b\nfinds: freed twice\n--- a/x.rs\n+++ b/x.rs\n";
        let mutant = patch::parse(Path::new("x"), text).expect("a full header");
        let verdict = |outcome| judge(&mutant, &mutant.expected[0], &outcome);
        assert!(matches!(
            verdict(TestOutcome::Failed { said: "panicked\n  freed twice".into() }),
            Verdict::Caught(_)
        ));
        assert!(matches!(
            verdict(TestOutcome::Failed { said: "out of memory".into() }),
            Verdict::Error(_)
        ));
        assert!(matches!(verdict(TestOutcome::Passed), Verdict::Survived(_)));
        assert!(matches!(verdict(TestOutcome::TimedOut), Verdict::Error(_)));
        assert!(matches!(verdict(TestOutcome::NoSuchTest), Verdict::Error(_)));
    }

    #[test]
    fn every_patch_has_a_full_header() {
        let mutants = patch::read_all(&folder()).expect("all patches can be read");
        assert!(mutants.len() >= 12);
        let says = |expected: &Expected| !expected.finds.is_empty();
        assert!(
            mutants
                .iter()
                .all(|mutant| mutant.may_hang.is_some() || mutant.expected.iter().all(says))
        );
    }
}
