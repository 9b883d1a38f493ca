//! `cargo xtask loom`, `shuttle` and `miri`: tools that run the real code under a scheduler or an interpreter of their own.
//!
//! Models stand in modules with `loom` or `shuttle` in their name, compiled only under that cfg. Each tool has a target folder of its own,
//! because its RUSTFLAGS would otherwise rebuild the world on every switch.

use crate::libtest::Skip;
use crate::tree::{self, Source};
use crate::{packages, shell, test};
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Options of `cargo xtask loom` and `cargo xtask shuttle`.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Only this package
    #[arg(short, long)]
    pub package: Option<String>,
    /// At most this many seconds for each single model (loom only)
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Only tests whose path contains this, besides the tool's name
    pub filter: Option<String>,
}

/// How often loom may take a thread off its core where it did not ask for it. Two finds all but contrived races and ends in minutes.
pub const LOOM_PREEMPTIONS: &str = "2";

/// Every interleaving of the small protocols.
pub fn loom(args: &Args) -> Result<()> {
    let mut command = model("loom", args)?;
    if std::env::var_os("LOOM_MAX_PREEMPTIONS").is_none() {
        command.env("LOOM_MAX_PREEMPTIONS", LOOM_PREEMPTIONS);
    }
    if let Some(seconds) = args.seconds {
        command.env("LOOM_MAX_DURATION", seconds.to_string());
    }
    finish(&mut command)
}

/// Whole pools under a random but repeatable scheduler.
pub fn shuttle(args: &Args) -> Result<()> {
    finish(&mut model("shuttle", args)?)
}

/// The unit tests Miri runs: those of the files with unsafe code and of what stands right on them. The rest moves too many bytes for an interpreter.
const UNDER_MIRI: [&str; 6] = [
    "extent::tests::bytes",
    "extent::tests::readers",
    "extent::tests::ranges",
    "extent::state",
    "table::",
    "pageblock::",
];

/// The crates that contain unsafe code, under Miri, where the component is there.
pub fn miri() -> Result<()> {
    if !shell::succeeds(shell::cargo_of("nightly", "miri").arg("--version")) {
        println!("SKIPPED miri: the component is missing; remedy: rustup +nightly component add miri");
        return Ok(());
    }
    let mut command = shell::cargo_of("nightly", "miri");
    // The arena maps nothing under Miri (its heap backing), and addresses turn into numbers and back on purpose.
    command.env("MIRIFLAGS", "-Zmiri-permissive-provenance -Zmiri-disable-isolation");
    command.args(["test", "-p", "memzip-sys", "-p", "memzip-frames", "--lib", "--"]);
    command.args(UNDER_MIRI);
    finish(&mut command)
}

/// `cargo test` under `--cfg <tool>`, of the packages that have such models.
fn model(tool: &str, args: &Args) -> Result<Command> {
    let mut command = shell::cargo("test");
    command.args(["--release", "--lib", "--no-fail-fast"]);
    // Clippy does not see what is compiled for a tool only, so its warnings end here.
    command.env("RUSTFLAGS", format!("{} -D warnings", flags(tool)));
    command.env("CARGO_TARGET_DIR", shell::root().join("target").join(tool));
    let packages = match &args.package {
        Some(package) => BTreeSet::from([package.clone()]),
        None => packages_with(tool)?,
    };
    if packages.is_empty() {
        bail!("no package has {tool} models");
    }
    packages.iter().for_each(|package| _ = command.args(["-p", package]));
    command.args(["--", "--show-output"]).arg(args.filter.as_deref().unwrap_or(tool));
    Ok(command)
}

/// What the compiler is told for models of this tool.
pub fn flags(tool: &str) -> String {
    format!("--cfg {tool} -C debug-assertions=on")
}

fn finish(command: &mut Command) -> Result<()> {
    let report = test::watch(command)?;
    report.print();
    let skips: Vec<&Skip> = report.skips().iter().collect();
    if !skips.is_empty() {
        bail!("{} models were skipped; a model has no reason to", skips.len());
    }
    report.into_result()
}

/// Names of the packages with a test that is compiled only for this tool.
fn packages_with(tool: &str) -> Result<BTreeSet<String>> {
    let sources = tree::sources()?;
    let metadata = packages::Metadata::of_workspace(shell::root())?;
    let in_folder = |folder: &Path| sources.iter().any(|s| s.path.starts_with(folder) && has_models(s, tool));
    Ok(metadata
        .packages
        .into_iter()
        .filter(|package| in_folder(&package.folder()))
        .map(|package| package.name)
        .collect())
}

/// A module of models is compiled for tests under its tool only.
fn has_models(source: &Source, tool: &str) -> bool {
    source.has_extension("rs") && source.text.contains(&format!("#[cfg(all(test, {tool}))]"))
}
