//! Memory failures in a guest: the guest's kernel, unlike some hosts', can take frames away from a
//! store.
//!
//! The program in the guest is `memory-failure` of the testkit; there is no server.

use anyhow::Result;

use super::testbed::{MachineArgs, Program, Scenario, Testbed};

/// Options of `cargo xtask guest memory-failure`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Memory of the guest in MiB
    #[arg(long, default_value_t = 512)]
    memory: u64,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Boots the guest, waits, and prints its lines.
pub(crate) fn run(args: &Args) -> Result<()> {
    let testbed = Testbed::with(&[Program::MemoryFailure], None)?;
    let scenario = Scenario {
        name: "memory_failure",
        memory: args.memory,
        words: String::new(),
        source: None,
        server: None,
    };
    let mut guest = testbed.boot(&scenario, &args.machine)?;
    let said = guest.wait_for("done")?;
    println!("\nmemory that fails in a guest of {} MiB", args.memory);
    said.iter().for_each(|line| println!("  {line}"));
    println!("verified: every page is what was written, or an error where its memory has failed");
    Ok(())
}
