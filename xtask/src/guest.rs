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

mod apt;
mod cpio;
mod data;
mod e3;
mod ext4;
mod figures;
mod initramfs;
mod machine;
mod memory_failure;
mod modules;
mod packages;
mod process;
mod server;
mod swap;
mod table;
mod testbed;

use crate::setup::{self, Host};
use crate::shell;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::PathBuf;

/// Options of `cargo xtask guest`.
#[derive(clap::Args)]
pub struct Args {
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

/// The reason why an experiment cannot run on this machine.
#[derive(Debug)]
struct Missing(String);

impl std::error::Error for Missing {}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Runs the experiment, or prints why it is skipped.
pub fn run(args: &Args) -> Result<()> {
    let done = match setup::for_guests()? {
        Host::Complete => args.experiment.run(),
        Host::Lacks(packages) => {
            Err(Missing(format!("this host lacks {}", packages.join(" "))).into())
        }
    };
    match done {
        Err(error) if error.is::<Missing>() => {
            println!("SKIPPED: guest {} did NOT run here: {error}", args.experiment.name());
            Ok(())
        }
        done => done,
    }
}

/// The folder of the guest's files, locked by one experiment at a time.
struct Folder {
    path: PathBuf,
    // The kernel unlocks the file when it is closed, however this program ends.
    _lock: File,
}

impl Folder {
    fn lock() -> Result<Self> {
        let path = shell::root().join("target").join("guest");
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        let lock = File::create(path.join("lock")).context("cannot create the lock file")?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => {
                bail!("another experiment runs in {}", path.display())
            }
            Err(std::fs::TryLockError::Error(error)) => {
                Err(error).context("cannot lock the lock file")
            }
        }
    }
}
