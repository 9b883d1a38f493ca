//! `cargo xtask test`: all tests of the workspace, with a list of the skipped ones at the end.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::libtest::{Reader, Show, Skip};
use crate::setup;

/// Options of `cargo xtask test`.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Arguments of `cargo test` instead of `--workspace`, for instance `-p memzip-zsmalloc`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub cargo: Vec<String>,
}

/// The results of a test run.
#[derive(Default)]
pub(crate) struct Report {
    reader: Reader,
    succeeded: bool,
}

/// Installs packages, runs the tests, and prints the skipped tests and the counts.
pub(crate) fn run(args: &Args) -> Result<Report> {
    setup::run()?;
    let mut command = shell::cargo("test");
    command.arg("--no-fail-fast");
    if args.cargo.is_empty() {
        command.arg("--workspace");
    }
    let report = watch(command.args(&args.cargo).args(["--", "--show-output"]))?;
    report.print();
    Ok(report)
}

/// Runs a `cargo test` command and parses its output.
pub(crate) fn watch(command: &mut Command) -> Result<Report> {
    eprintln!("$ {}", shell::line(command));
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    let mut reader = Reader::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if reader.line(&line) == Show::Yes {
            println!("{line}");
        }
    }
    let succeeded = child.wait()?.success();
    Ok(Report { reader, succeeded })
}

impl Report {
    /// Returns the tests that skipped.
    pub(crate) fn skips(&self) -> &[Skip] {
        &self.reader.skips
    }

    /// Returns the models whose search a limit ended.
    pub(crate) fn cut_off(&self) -> &[Skip] {
        &self.reader.cut_off
    }

    /// Prints the skipped tests, the failed tests and the counts.
    pub(crate) fn print(&self) {
        let Reader { passed, failed, skips, failures, .. } = &self.reader;
        println!();
        if !skips.is_empty() {
            println!("==== SKIPPED: {} tests did NOT run here ====", skips.len());
            skips.iter().for_each(|skip| println!("SKIPPED {}: {}", skip.test, skip.reason));
            println!();
        }
        failures.iter().for_each(|name| println!("FAILED {name}"));
        println!("{passed} passed, {failed} failed, {} skipped", skips.len());
    }

    /// Returns an error if a test failed or cargo itself failed.
    pub(crate) fn into_result(self) -> Result<()> {
        match (self.reader.failed, self.succeeded) {
            (0, true) => Ok(()),
            (0, false) => bail!("cargo test failed before all tests ran"),
            (failed, _) => bail!("{failed} tests failed"),
        }
    }
}
