//! `cargo xtask guest`: builds and runs the experiments in a guest, which document their own
//! options.

use anyhow::Result;

use crate::packages;
use crate::setup::{self, Host};

/// Options of `cargo xtask guest`.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// An experiment and its options; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    guest: Vec<String>,
}

/// Installs what the guest needs and runs the experiment, or prints why it is skipped.
pub(crate) fn run(args: &Args) -> Result<()> {
    let is_help = args.guest.iter().any(|word| word == "--help" || word == "-h");
    if let Some(experiment) = args.guest.first().filter(|_| !is_help)
        && let Host::Lacks(packages) = setup::for_guests()?
    {
        let lacks = packages.join(" ");
        println!("SKIPPED: guest {experiment} did NOT run here: this host lacks {lacks}");
        return Ok(());
    }
    let mut command = shell::cargo("run");
    command.args(["--quiet", "-p", packages::GUEST, "--"]).args(&args.guest);
    shell::run(&mut command)
}
