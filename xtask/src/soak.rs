//! `cargo xtask soak`: readers, writers, both compactions, migration, a balloon and pools that come and go, at once, for half an hour.

use crate::{packages, shell};
use anyhow::Result;

/// Options of `cargo xtask soak`.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// Options of the program; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    soak: Vec<String>,
}

/// Builds the program, optimised and with its assertions on, and runs it.
pub fn run(args: &Args) -> Result<()> {
    let mut command = shell::cargo("run");
    command.args(["--release", "--config", "profile.release.debug-assertions=true"]);
    // Nothing is timed here, so the long link of a release is not worth its minutes.
    command.args(["--config", "profile.release.lto=\"off\"", "--target-dir", "target/soak"]);
    command
        .args(["-p", packages::BENCH, "--features", "bench", "--bin", "soak", "--"])
        .args(&args.soak);
    shell::run(&mut command)
}
