//! `cargo xtask guest`: experiments inside a real Linux guest, so that memzip and the kernel's own zram do the same work side by side.
//!
//! ```text
//! packages, programs --> initramfs --> machine (QEMU) --serial line--> e3, swap, ext4, memory_failure
//!                       data (e3) --> /dev/vda |
//!            server (memzip, NBD) -------------+-> the last disk
//! ```
//! Everything of the guest comes out of the distribution's own packages, from wherever this machine gets its packages, and lies below
//! `target/guest`. Nothing is installed but QEMU and xz, and those only as root. What is missing is said, and the experiment is skipped.

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

/// What can be done in the guest.
#[derive(clap::Subcommand)]
enum Experiment {
    /// Eight writers of 128 MiB, half of the files deleted, then both compactions: the original, this kernel, memzip
    E3(e3::Args),
    /// memzip as swap space: the guest fills 1.5 times its memory and verifies every page
    Swap(swap::Args),
    /// memzip under ext4 with discard, while balloon, hot cache and both compactions work at once
    Ext4(ext4::Args),
    /// Memory that really fails below a store in the guest: the guest's kernel takes frames away
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

/// Why an experiment cannot run here though nothing is wrong with it.
#[derive(Debug)]
struct Missing(String);

impl std::error::Error for Missing {}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Runs the experiment, or says loudly why it cannot run here.
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

/// The folder that all files of the guest lie in, for one experiment at a time.
struct Folder {
    path: PathBuf,
    // Unlocked when closed, however this program ends.
    _lock: File,
}

impl Folder {
    fn lock() -> Result<Self> {
        let path = shell::root().join("target").join("guest");
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        let lock = File::create(path.join("lock")).context("cannot make a lock")?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => {
                bail!("another experiment runs in {}", path.display())
            }
            Err(std::fs::TryLockError::Error(error)) => Err(error).context("cannot lock"),
        }
    }
}
