//! `cargo xtask guest`: experiments in a Linux guest, where memzip and the kernel's own zram do the
//! same work.
//!
//! ```text
//! packages, programs -> initramfs -> machine (QEMU) -serial line-> e3, swap, ext4, memory_failure
//!                      data (e3) -> /dev/vda |
//!           server (memzip, NBD) ------------+-> the last disk
//! ```
//! All files of the guest come from the distribution's packages, from this machine's package
//! sources, and lie below `target/guest`. Only QEMU and xz are installed, and only by root. If
//! something is missing, the experiment prints it and is skipped.

#![forbid(unsafe_code)]

mod missing;
mod folder;
mod apt;
mod packages;
mod cpio;
mod modules;
mod initramfs;
mod process;
mod machine;
mod server;
mod testbed;
mod data;
mod figures;
mod e3;
mod swap;
mod ext4;
mod memory_failure;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use missing::Missing;

/// Experiments in a Linux guest: memzip and the kernel's own zram, swap, ext4, and memory failures
#[derive(Parser)]
#[command(name = "cargo xtask guest", bin_name = "cargo xtask guest")]
struct Cli {
    #[command(subcommand)]
    experiment: Experiment,
}

/// An experiment in the guest.
#[derive(clap::Subcommand)]
enum Experiment {
    /// Write eight files of 128 MiB, delete half of them, run both compactions: the original, this
    /// kernel, memzip
    E3(e3::Args),
    /// Use memzip as swap space: the guest fills 1.5 times its memory and verifies every page
    Swap(swap::Args),
    /// Use memzip under ext4 with discard, with a balloon, the hot cache and both compactions
    Ext4(ext4::Args),
    /// Let memory fail below a store in the guest: the guest's kernel takes frames away
    MemoryFailure(memory_failure::Args),
}

impl Experiment {
    fn name(&self) -> &'static str {
        match self {
            Self::E3(_) => "e3",
            Self::Swap(_) => "swap",
            Self::Ext4(_) => "ext4",
            Self::MemoryFailure(_) => "memory-failure",
        }
    }

    fn run(&self) -> Result<()> {
        match self {
            Self::E3(args) => e3::run(args),
            Self::Swap(args) => swap::run(args),
            Self::Ext4(args) => ext4::run(args),
            Self::MemoryFailure(args) => memory_failure::run(args),
        }
    }
}

fn main() -> ExitCode {
    let experiment = Cli::parse().experiment;
    match experiment.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Missing>() => {
            println!("SKIPPED: guest {} did NOT run here: {error}", experiment.name());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
