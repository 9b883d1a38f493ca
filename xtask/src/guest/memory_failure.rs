//! Memory that really fails: a guest's kernel takes frames away from a store in the guest, which only some kernels can do.
//!
//! The program that does it all is of the testkit; nothing is served, and all that is here is the machine.

use super::testbed::{MachineArgs, Program, Scenario, Testbed};
use anyhow::Result;

/// Options of `cargo xtask guest memory-failure`.
#[derive(clap::Args)]
pub struct Args {
    /// The guest's memory, in MiB
    #[arg(long, default_value_t = 512)]
    memory: u64,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Boots, waits, and prints what the guest said.
pub fn run(args: &Args) -> Result<()> {
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
