//! `cargo xtask loom`, `shuttle` and `miri`: run the real code under a scheduler or an interpreter.
//!
//! Models are in modules with `loom` or `shuttle` in their name, compiled only under that cfg. Each
//! tool has its own target folder, because its RUSTFLAGS would otherwise rebuild everything.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::libtest::Skip;
use crate::tree::{self, Source};
use crate::{packages, test};

/// Options of `cargo xtask loom`.
#[derive(clap::Args, Default)]
pub(crate) struct LoomArgs {
    /// Most seconds for each model; models that are cut off are listed at the end
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Most preemptions in a schedule (default: 2)
    #[arg(long)]
    pub preemptions: Option<u8>,
    /// Fail when a model is cut off that is not in the list of long models
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    pub models: Args,
}

/// Options of `cargo xtask shuttle`, which `cargo xtask loom` has, too.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Only this package
    #[arg(short, long)]
    pub package: Option<String>,
    /// Only tests whose paths contain this instead of the tool's name
    pub filter: Option<String>,
}

/// Most preemptions of a loom schedule. Two find all but contrived races and take minutes; three
/// take a night.
pub(crate) const LOOM_PREEMPTIONS: u8 = 2;

/// Number of schedules after which loom checks its time limit. Its default of 20 000 can take
/// minutes.
const CLOCK_INTERVAL: &str = "500";

/// Most steps of a schedule. loom's default of 1,000 treats longer schedules as endless loops, but
/// a compaction beside a migration needs more.
pub(crate) const LOOM_BRANCHES: &str = "4000";

/// Models that need more than a minute for all schedules with two preemptions. CI cuts them off and
/// lists them; every other model must finish.
const KNOWN_LONG: [&str; 0] = [];

/// Runs the loom models: all interleavings with a bounded number of preemptions.
pub(crate) fn loom(args: &LoomArgs) -> Result<()> {
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
        bail!("{unknown} models were cut off that are not in KNOWN_LONG");
    }
    Ok(())
}

/// Prints the models that were cut off and returns how many of them are not known to be long.
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

/// Runs the shuttle models: whole pools under a random but repeatable scheduler.
pub(crate) fn shuttle(args: &Args) -> Result<()> {
    finish(run(&mut model("shuttle", args)?)?)
}

/// The unit tests under Miri: those of the files with unsafe code and of their direct users. The
/// other tests move too many bytes for an interpreter.
const UNDER_MIRI: [&str; 6] = [
    "chain::tests::bytes",
    "chain::tests::readers",
    "chain::tests::ranges",
    "chain::state",
    "table::",
    "pageblock::",
];

/// Runs the crates with unsafe code under Miri, or skips where Miri is not installed.
pub(crate) fn miri() -> Result<()> {
    if !shell::succeeds(shell::cargo_of("nightly", "miri").arg("--version")) {
        println!(
            "SKIPPED miri: the component is missing; remedy: rustup +nightly component add miri"
        );
        return Ok(());
    }
    let mut command = shell::cargo_of("nightly", "miri");
    // Under Miri the arena is a heap allocation. The code converts addresses to integers and back
    // on purpose.
    command.env("MIRIFLAGS", "-Zmiri-permissive-provenance -Zmiri-disable-isolation");
    command.args(["test", "-p", "memzip-sys", "-p", "memzip-frames", "--lib", "--"]);
    command.args(UNDER_MIRI);
    finish(run(&mut command)?)
}

/// Returns `cargo test` under `--cfg <tool>` for the packages with such models.
fn model(tool: &str, args: &Args) -> Result<Command> {
    let mut command = shell::cargo("test");
    command.args(["--release", "--lib", "--no-fail-fast"]);
    // Clippy does not see code of this cfg, so warnings are errors here.
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

/// Returns the rustc flags for the models of a tool.
pub(crate) fn flags(tool: &str) -> String {
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
        bail!("{} models were skipped; a model must never skip", skips.len());
    }
    report.into_result()
}

/// Returns the names of the packages with models for this tool.
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

/// Returns whether the file is or declares a module of models for this tool.
fn has_models(source: &Source, tool: &str) -> bool {
    let declares = |line: &str| line.trim() == format!("mod {tool};");
    source.has_extension("rs")
        && (source.text.lines().any(declares)
            || source.text.contains(&format!("#[cfg(all(test, {tool}))]")))
}

#[cfg(test)]
mod tests {
    use super::packages_with;

    /// A package that is not found here loses its models without a word.
    #[test]
    fn the_packages_with_models_are_found() {
        let found =
            |tool| packages_with(tool).expect("a workspace").into_iter().collect::<Vec<_>>();
        let all =
            ["memzip-balloon", "memzip-frames", "memzip-sync", "memzip-zram", "memzip-zsmalloc"];
        assert_eq!(found("loom"), all);
        assert_eq!(found("shuttle"), [all[0], all[2], all[3], all[4]]);
    }
}
