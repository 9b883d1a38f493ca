//! `cargo xtask check`: rules that a reviewer need not check.
//!
//! A rule is a function from the repository's files to findings. All rules run even if one fails,
//! so that one run shows everything.

mod finding;
mod markdown;
mod layers;
mod rooms;
mod picture;
mod licences;
mod imports;
mod comments;
mod text;
mod retired;
mod safety;
mod unsafety;
mod words;
mod links;
mod requirements;
mod mutants;
mod aarch64;

use anyhow::{Result, bail};

use crate::tree;
use finding::Finding;

/// Options of `cargo xtask check`.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Only check the rules of the workspace: no format, clippy or docs, and no build
    #[arg(long)]
    rules: bool,
    /// Only count the arrows between the files of each crate, and list those of PACKAGE that break
    /// the order of its modules
    #[arg(long, hide = true, value_name = "PACKAGE", num_args = 0..=1, default_missing_value = "")]
    arrows: Option<String>,
}

/// Options of clippy: every target of every crate, and warnings are errors.
const CLIPPY: [&str; 7] =
    ["--workspace", "--all-targets", "--keep-going", "--quiet", "--", "-D", "warnings"];

/// Runs all steps, even after a failure. The rules come first, because they take only a second.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(package) = &args.arrows {
        return rooms::print(&tree::sources()?, package);
    }
    let mut steps = vec![("rules", rules())];
    if !args.rules {
        let mut docs = shell::cargo("doc");
        docs.args([
            "--workspace",
            "--keep-going",
            "--no-deps",
            "--document-private-items",
            "--quiet",
        ])
        .env("RUSTDOCFLAGS", "-D warnings");
        steps.push(("fmt", shell::run(shell::cargo("fmt").args(["--all", "--check"]))));
        // The fuzz targets are a workspace of their own.
        let fuzz = ["--manifest-path", "fuzz/Cargo.toml", "--check"];
        steps.push(("fmt of fuzz", shell::run(shell::cargo("fmt").args(fuzz))));
        // A build there would update the lock file instead of failing.
        let fuzz = ["--manifest-path", "fuzz/Cargo.toml", "--locked"];
        steps.push(("lock of fuzz", shell::run(shell::cargo("fetch").args(fuzz))));
        steps.push(("clippy", shell::run(shell::cargo("clippy").args(CLIPPY))));
        steps.push(("docs", shell::run(&mut docs)));
        steps.push(("aarch64", aarch64::check()));
    }
    let failed: Vec<String> = steps
        .into_iter()
        .filter_map(|(name, step)| Some(format!("{name}: {:#}", step.err()?)))
        .collect();
    if !failed.is_empty() {
        bail!("check failed: {}", failed.join("; "));
    }
    Ok(())
}

fn rules() -> Result<()> {
    let sources = tree::sources()?;
    let findings: Vec<(&str, Vec<Finding>)> = vec![
        ("layers", layers::check(&sources)?),
        ("rooms", rooms::check(&sources)?),
        ("picture", picture::check(&sources)?),
        ("licences", licences::check()?),
        ("length", text::length(&sources)),
        ("ascii", text::ascii(&sources)),
        ("allow", text::allow(&sources)),
        ("imports", imports::check(&sources)),
        ("bool parameters", text::bools(&sources)),
        ("comment width", comments::width(&sources)),
        ("verbs", comments::verbs(&sources)),
        ("retired words", retired::check(&sources)),
        ("safety", safety::check(&sources)),
        ("unsafe", unsafety::check(&sources)?),
        ("words", words::check(&sources)),
        ("links", links::check(&sources)),
        ("requirements", requirements::check(&sources)),
        ("mutants", mutants::check()?),
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
