//! `cargo xtask soak`: builds and runs the soak of `testkit`, which documents its own options.

use anyhow::Result;

use crate::packages;

/// Options of `cargo xtask soak`.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Options of the soak program; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    soak: Vec<String>,
}

/// Builds the program in release mode with debug assertions, and runs it.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut command = shell::cargo("run");
    command.args(["--release", "--config", "profile.release.debug-assertions=true"]);
    // Nothing is timed, so link-time optimisation would only cost build time.
    command.args(["--config", "profile.release.lto=\"off\"", "--target-dir", "target/soak"]);
    command
        .args(["-p", packages::BENCH, "--features", "bench", "--bin", "soak", "--"])
        .args(&args.soak);
    shell::run(&mut command)
}
