//! `cargo xtask bench`: builds and starts the benchmark program of `testkit`, which explains its own options.

use crate::{packages, shell};
use anyhow::Result;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// Options of the benchmark program; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    bench: Vec<String>,
}

/// Builds the server the benchmark talks to, then runs the benchmark, both optimised.
pub fn run(args: &Args) -> Result<()> {
    // `--bins`: the malloc peers are programs of the benchmark's package, which `run` alone would not build.
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
