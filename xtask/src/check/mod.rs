//! `cargo xtask check`: what a reviewer should not have to look for.
//!
//! A rule is a function from the repository's files to findings. All rules run before the first failure ends the check, so that one run
//! shows everything.

mod layers;
mod licences;
mod links;
mod markdown;
mod requirements;
mod safety;
mod text;
mod unsafety;
mod words;

use crate::shell;
use crate::tree::{self, Source};
use anyhow::{Result, bail};

/// Options of `cargo xtask check`.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Only the rules of the house: no format, clippy or docs, and no build
    #[arg(long)]
    rules: bool,
}

/// One thing that is not as it should be.
pub struct Finding {
    /// Where, as `path:line` or a name.
    place: String,
    /// What is wrong and what would be right.
    problem: String,
}

impl Finding {
    /// A finding in line `line` (from 1) of a file.
    fn at(source: &Source, line: usize, problem: impl Into<String>) -> Self {
        Finding { place: format!("{}:{line}", source.path.display()), problem: problem.into() }
    }

    /// A finding about a whole file, package or name.
    fn about(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Finding { place: place.into(), problem: problem.into() }
    }
}

/// Rules first, since they take a second; then what has to build.
pub fn run(args: &Args) -> Result<()> {
    rules()?;
    if args.rules {
        return Ok(());
    }
    shell::run(shell::cargo("fmt").args(["--all", "--check"]))?;
    shell::run(shell::cargo("clippy").args(["--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    let mut docs = shell::cargo("doc");
    docs.args(["--workspace", "--no-deps", "--document-private-items", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings");
    shell::run(&mut docs)
}

fn rules() -> Result<()> {
    let sources = tree::sources()?;
    let findings: Vec<(&str, Vec<Finding>)> = vec![
        ("layers", layers::check(&sources)?),
        ("licences", licences::check()?),
        ("length", text::length(&sources)),
        ("ascii", text::ascii(&sources)),
        ("allow", text::allow(&sources)),
        ("safety", safety::check(&sources)),
        ("unsafe", unsafety::check(&sources)?),
        ("words", words::check(&sources)),
        ("links", links::check(&sources)),
        ("requirements", requirements::check(&sources)),
    ];
    let mut count = 0;
    for (rule, findings) in findings {
        println!("check {rule}: {}", if findings.is_empty() { "ok" } else { "FAILED" });
        findings.iter().for_each(|finding| println!("  {}: {}", finding.place, finding.problem));
        count += findings.len();
    }
    if count > 0 {
        bail!("{count} findings");
    }
    Ok(())
}
