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

/// Options of `cargo xtask loom`.
#[derive(clap::Args, Default)]
pub struct LoomArgs {
    /// At most this many seconds for each single model; what is cut off is listed at the end
    #[arg(long)]
    pub seconds: Option<u64>,
    /// How often a schedule may take a thread off its core at most (default: 2)
    #[arg(long)]
    pub preemptions: Option<u8>,
    /// Fail when a model is cut off that is not on the list of known long ones
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    pub models: Args,
}

/// Options of `cargo xtask shuttle`, and some of those of `cargo xtask loom`.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Only this package
    #[arg(short, long)]
    pub package: Option<String>,
    /// Only tests whose path contains this, besides the tool's name
    pub filter: Option<String>,
}

/// How often loom may take a thread off its core where the thread did not ask for it. Two finds all
/// but contrived races and ends in minutes; three take a night.
pub const LOOM_PREEMPTIONS: u8 = 2;

/// After how many schedules loom looks at the clock. Its own 20 000 can be minutes.
const CLOCK_INTERVAL: &str = "500";

/// Steps one schedule may take. loom's own 1,000 stand for a thread that spins for ever, and a compaction beside a migration needs more.
pub const LOOM_BRANCHES: &str = "4000";

/// Models that need more than a minute each for all schedules with two preemptions. CI cuts them off
/// and says so; a model that is not listed must run to its end there.
const KNOWN_LONG: [&str; 0] = [];

/// The interleavings of the small protocols, with a bounded number of preemptions.
pub fn loom(args: &LoomArgs) -> Result<()> {
    let mut command = model("loom", &args.models)?;
    command.env("LOOM_CHECKPOINT_INTERVAL", CLOCK_INTERVAL);
    command.env("LOOM_MAX_BRANCHES", LOOM_BRANCHES);
    if args.preemptions.is_some() || std::env::var_os("LOOM_MAX_PREEMPTIONS").is_none() {
        let preemptions = args.preemptions.unwrap_or(LOOM_PREEMPTIONS);
        command.env("LOOM_MAX_PREEMPTIONS", preemptions.to_string());
    }
    if let Some(seconds) = args.seconds {
        command.env("LOOM_MAX_DURATION", seconds.to_string());
    }
    let report = run(&mut command)?;
    let unknown = list_cut_off(report.cut_off());
    finish(report)?;
    if args.strict && unknown > 0 {
        bail!("{unknown} models were cut off that are not on the list of known long ones");
    }
    Ok(())
}

/// Prints the models that a limit ended; returns how many of them are not known to be long.
fn list_cut_off(cut_off: &[Skip]) -> usize {
    if cut_off.is_empty() {
        return 0;
    }
    println!("==== CUT OFF: {} models did NOT try all schedules ====", cut_off.len());
    for Skip { test, reason } in cut_off {
        let known = if is_known(test) { " (known to be long)" } else { "" };
        println!("CUT OFF {test}: {reason}{known}");
    }
    cut_off.iter().filter(|model| !is_known(&model.test)).count()
}

fn is_known(model: &str) -> bool {
    KNOWN_LONG.contains(&model)
}

/// Whole pools under a random but repeatable scheduler.
pub fn shuttle(args: &Args) -> Result<()> {
    finish(run(&mut model("shuttle", args)?)?)
}

/// The unit tests Miri runs: those of the files with unsafe code and of what stands right on them. The rest moves too many bytes for an interpreter.
const UNDER_MIRI: [&str; 6] = [
    "chain::tests::bytes",
    "chain::tests::readers",
    "chain::tests::ranges",
    "chain::state",
    "table::",
    "pageblock::",
];

/// The crates that contain unsafe code, under Miri, where the component is there.
pub fn miri() -> Result<()> {
    if !shell::succeeds(shell::cargo_of("nightly", "miri").arg("--version")) {
        println!(
            "SKIPPED miri: the component is missing; remedy: rustup +nightly component add miri"
        );
        return Ok(());
    }
    let mut command = shell::cargo_of("nightly", "miri");
    // The arena maps nothing under Miri (its heap backing), and addresses turn into numbers and back on purpose.
    command.env("MIRIFLAGS", "-Zmiri-permissive-provenance -Zmiri-disable-isolation");
    command.args(["test", "-p", "memzip-sys", "-p", "memzip-frames", "--lib", "--"]);
    command.args(UNDER_MIRI);
    finish(run(&mut command)?)
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

fn run(command: &mut Command) -> Result<test::Report> {
    let report = test::watch(command)?;
    report.print();
    Ok(report)
}

fn finish(report: test::Report) -> Result<()> {
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
    let in_folder =
        |folder: &Path| sources.iter().any(|s| s.path.starts_with(folder) && has_models(s, tool));
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
