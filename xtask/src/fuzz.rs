//! `cargo xtask fuzz`: libFuzzer over the targets in `fuzz/`, with the pinned stable toolchain.
//!
//! cargo-fuzz and nightly are not needed: libFuzzer's coverage instrumentation is an LLVM pass,
//! which stable can enable. They would add the address sanitizer; `--asan` enables it and needs
//! nightly.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::packages::Metadata;

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Target to fuzz; all targets if omitted
    pub target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// Build with the address sanitizer (needs the nightly toolchain)
    #[arg(long)]
    pub asan: bool,
    /// Only list the targets
    #[arg(long)]
    pub list: bool,
}

/// rustc flags for the instrumentation that cargo-fuzz enables.
const COVERAGE: &str = "--cfg fuzzing -C debug-assertions=on -C codegen-units=1 -C passes=sancov-module \
    -C llvm-args=-sanitizer-coverage-level=4 -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
    -C llvm-args=-sanitizer-coverage-pc-table -C llvm-args=-sanitizer-coverage-trace-compares";

/// Builds the targets and runs them one after the other.
pub(crate) fn run(args: &Args) -> Result<()> {
    let targets = targets()?;
    if args.list {
        targets.iter().for_each(|target| println!("{target}"));
        return Ok(());
    }
    let chosen: Vec<&String> = match &args.target {
        Some(name) => targets.iter().filter(|target| *target == name).collect(),
        None => targets.iter().collect(),
    };
    if chosen.is_empty() {
        bail!("no such fuzz target; the targets are: {}", targets.join(", "));
    }
    let folder = build(args)?;
    chosen.into_iter().try_for_each(|target| fuzz(&folder, target, args.seconds))
}

/// Returns the names of the fuzz targets.
pub(crate) fn targets() -> Result<Vec<String>> {
    let folder = shell::root().join("fuzz");
    if !folder.join("Cargo.toml").exists() {
        return Ok(Vec::new());
    }
    let metadata = Metadata::of_workspace(&folder)?;
    let targets = metadata.packages.into_iter().flat_map(|package| package.targets);
    Ok(targets.filter(|target| target.kind == ["bin"]).map(|target| target.name).collect())
}

/// Builds all targets and returns the folder of the programs.
fn build(args: &Args) -> Result<PathBuf> {
    let triple = host_triple()?;
    let (mut command, flags) = if args.asan {
        (shell::cargo_of("nightly", "build"), format!("{COVERAGE} -Z sanitizer=address"))
    } else {
        (shell::cargo("build"), COVERAGE.to_owned())
    };
    let out = shell::root().join("target").join(if args.asan { "fuzz-asan" } else { "fuzz" });
    // With an explicit target the flags do not apply to build scripts and macros, which run
    // without libFuzzer.
    command.args(["--release", "--target", &triple]).current_dir(shell::root().join("fuzz"));
    command.env("RUSTFLAGS", flags).env("CARGO_TARGET_DIR", &out);
    shell::run(&mut command)?;
    Ok(out.join(triple).join("release"))
}

/// Fuzzes one target. libFuzzer prints executions, coverage and speed at the end.
fn fuzz(folder: &std::path::Path, target: &str, seconds: u64) -> Result<()> {
    let corpus = shell::root().join("fuzz/corpus").join(target);
    let artifacts = shell::root().join("fuzz/artifacts").join(target);
    for folder in [&corpus, &artifacts] {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    println!("==== fuzz {target}: {seconds} s ====");
    let seeds = shell::root().join("fuzz/seeds").join(target);
    let words = shell::root().join(format!("fuzz/{target}.dict"));
    let mut command = Command::new(folder.join(target));
    if words.exists() {
        command.arg(format!("-dict={}", words.display()));
    }
    // libFuzzer writes new inputs to the first folder and only reads the second.
    command.arg(&corpus).args(seeds.exists().then_some(&seeds));
    command
        .arg(format!("-max_total_time={seconds}"))
        .args(["-print_final_stats=1", "-rss_limit_mb=4096"]);
    command.arg(format!("-artifact_prefix={}/", artifacts.display())).current_dir(shell::root());
    shell::run(&mut command).with_context(|| {
        format!("fuzz target {target} found something; see fuzz/artifacts/{target}")
    })
}

fn host_triple() -> Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .current_dir(shell::root())
        .output()
        .context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let triple = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(triple.context("`rustc -vV` prints no host")?.to_owned())
}
