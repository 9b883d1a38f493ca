//! `cargo xtask bench`: builds and runs the benchmark of `testkit`, which documents its own
//! options.

use anyhow::Result;

use crate::packages;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Options of the benchmark program; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    bench: Vec<String>,
}

/// Builds the server that is measured, then builds and runs the benchmark, all in release mode.
pub(crate) fn run(args: &Args) -> Result<()> {
    // `--bins` also builds the malloc peers, which `cargo run` alone would not.
    shell::run(shell::cargo("build").args(["--release", "-p", packages::BINARY, "--bins"]))?;
    shell::run(shell::cargo("build").args([
        "--release",
        "-p",
        packages::BENCH,
        "--features",
        "bench",
        "--bins",
    ]))?;
    let mut command = shell::cargo("run");
    command
        .args(["--release", "-p", packages::BENCH, "--features", "bench", "--bin", "bench", "--"])
        .args(&args.bench);
    shell::run(&mut command)
}
