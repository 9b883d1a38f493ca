//! What every experiment in a guest needs: the packages, the programs, a server and a booted machine.

use super::Folder;
use super::initramfs;
use super::machine::{Accelerator, Hardware, Machine};
use super::packages::{self, Packages};
use super::server::{self, NBD_SOCKET, Server, Stat};
use crate::{packages as workspace, shell};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Options of every experiment.
#[derive(clap::Args)]
pub struct GuestArgs {
    /// The longest one boot of the guest may take
    #[arg(long, default_value_t = 1800)]
    pub seconds: u64,
    /// What runs the guest's instructions
    #[arg(long, value_enum, default_value_t = Accelerator::Tcg)]
    pub accelerator: Accelerator,
    /// Serve with this memzip program in place of building one
    #[arg(long)]
    pub binary: Option<PathBuf>,
}

/// What one boot of the guest is for.
pub struct Scene<'a> {
    /// The script it plays.
    pub name: &'a str,
    /// The guest's memory, in MiB.
    pub memory: u64,
    /// Words for the script, `name=value` each.
    pub words: String,
    /// A disk to copy from, in front of memzip's.
    pub source: Option<&'a Path>,
}

/// Everything but the running programs.
pub struct Ground {
    pub folder: Folder,
    binary: PathBuf,
    packages: Packages,
    initramfs: PathBuf,
}

impl Ground {
    /// Fetches, builds and writes what is needed.
    pub fn prepare(args: &GuestArgs) -> Result<Self> {
        let folder = Folder::claim()?;
        let packages = packages::unpacked(&folder.path)?;
        let initramfs = folder.path.join("initramfs.cpio");
        let archive = initramfs::build(&packages, &worker()?)?;
        std::fs::write(&initramfs, archive).with_context(|| format!("cannot write {}", initramfs.display()))?;
        let binary = match &args.binary {
            Some(binary) => binary.canonicalize().with_context(|| format!("no program at {}", binary.display()))?,
            None => server::build()?,
        };
        Ok(Self { folder, binary, packages, initramfs })
    }

    /// Starts a server with these options of `memzip serve`.
    pub fn serve(&self, options: &[&str]) -> Result<Server> {
        Server::start(&self.binary, &self.folder.path, options)
    }

    /// Boots a guest in front of the server that was started last.
    pub fn boot(&self, scene: &Scene<'_>, args: &GuestArgs) -> Result<Machine> {
        let words = scene.words.split_whitespace().map(|word| format!(" guest.{word}"));
        let hardware = Hardware {
            kernel: self.packages.root.join("boot").join(format!("vmlinuz-{}", self.packages.kernel)),
            initramfs: &self.initramfs,
            options: format!("guest.scene={}{}", scene.name, words.collect::<String>()),
            memory_mib: scene.memory,
            accelerator: args.accelerator,
            source: scene.source,
            nbd_socket: NBD_SOCKET,
            folder: &self.folder.path,
        };
        Machine::boot(&hardware, Duration::from_secs(args.seconds))
    }
}

/// Builds the program that works in the guest. It needs no library there.
fn worker() -> Result<PathBuf> {
    let mut cargo = shell::cargo("rustc");
    cargo.args(["-p", workspace::XTASK, "--bin", "guest-worker", "--message-format", "json-render-diagnostics"]);
    cargo.args(["--", "-C", "target-feature=+crt-static"]);
    server::built(&mut cargo)
}

/// An error if the server refused or failed anything, or took more memory than it may.
pub fn sound(stat: &Stat) -> Result<()> {
    if stat.mem_limit > 0 && stat.mem_used_max > stat.mem_limit {
        bail!("memzip took {} bytes, and its limit is {}", stat.mem_used_max, stat.mem_limit);
    }
    match stat.failures() {
        0 => Ok(()),
        failures => bail!("{failures} requests to memzip failed: {:?}, {:?}", stat.io, stat.nbd.errors),
    }
}
