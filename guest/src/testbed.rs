//! The parts of every experiment in a guest: packages, programs, a server and a booted machine.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::folder::Folder;
use super::initramfs;
use super::machine::{Accelerator, Hardware, Machine};
use super::packages::{self, Packages};
use super::server::{self, NBD_SOCKET, Server, Stat};

/// The package with the program whose memory fails.
const TESTKIT: &str = "memzip-testkit";

/// Options of every experiment.
#[derive(clap::Args)]
pub(crate) struct MachineArgs {
    /// Most seconds of one boot of the guest
    #[arg(long, default_value_t = 1800)]
    pub seconds: u64,
    /// Way in which QEMU runs the guest's instructions
    #[arg(long, value_enum, default_value_t = Accelerator::Tcg)]
    pub accelerator: Accelerator,
}

/// Options of an experiment with a server.
#[derive(clap::Args)]
pub(crate) struct GuestArgs {
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Serve with this memzip program instead of building one
    #[arg(long)]
    pub binary: Option<PathBuf>,
}

/// The configuration of one boot of the guest.
pub(crate) struct Scenario<'a> {
    /// The script that runs.
    pub name: &'a str,
    /// Memory of the guest in MiB.
    pub memory: u64,
    /// Options of the script, each `name=value`.
    pub words: String,
    /// A source disk, before memzip's disk.
    pub source: Option<&'a Path>,
    /// The server of memzip's disk.
    pub server: Option<&'a Server>,
}

/// A program that runs in the guest.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Program {
    /// Fills memory or a file system and verifies it.
    Worker,
    /// Makes memory fail below its own store.
    MemoryFailure,
}

/// Everything except the running programs.
pub(crate) struct Testbed {
    pub folder: Folder,
    /// The server's program.
    binary: Option<PathBuf>,
    packages: Packages,
    initramfs: PathBuf,
}

impl Testbed {
    /// Downloads, builds and writes the parts of a guest with a server.
    pub(crate) fn prepare(args: &GuestArgs) -> Result<Self> {
        let binary = match &args.binary {
            Some(binary) => binary
                .canonicalize()
                .with_context(|| format!("{} does not exist", binary.display()))?,
            None => server::build()?,
        };
        Self::with(&[Program::Worker], Some(binary))
    }

    /// Downloads, builds and writes the parts of a guest with these programs.
    pub(crate) fn with(programs: &[Program], binary: Option<PathBuf>) -> Result<Self> {
        let folder = Folder::lock()?;
        let packages = packages::unpacked(&folder.path)?;
        let initramfs = folder.path.join("initramfs.cpio");
        let built = programs.iter().map(|program| Ok((program.name(), program.build()?)));
        let archive = initramfs::build(&packages, &built.collect::<Result<Vec<_>>>()?)?;
        std::fs::write(&initramfs, archive)
            .with_context(|| format!("cannot write {}", initramfs.display()))?;
        Ok(Self { folder, binary, packages, initramfs })
    }

    /// Starts a server with these options of `memzip serve`.
    pub(crate) fn serve(&self, options: &[&str]) -> Result<Server> {
        let binary = self.binary.as_ref().context("this experiment has no server")?;
        Server::start(binary, &self.folder.path, options)
    }

    /// Boots a guest.
    pub(crate) fn boot(&self, scenario: &Scenario<'_>, args: &MachineArgs) -> Result<Machine> {
        let words = scenario.words.split_whitespace().map(|word| format!(" guest.{word}"));
        let hardware = Hardware {
            kernel: self
                .packages
                .root
                .join("boot")
                .join(format!("vmlinuz-{}", self.packages.kernel)),
            initramfs: &self.initramfs,
            options: format!("guest.scenario={}{}", scenario.name, words.collect::<String>()),
            memory_mib: scenario.memory,
            accelerator: args.accelerator,
            source: scenario.source,
            nbd_socket: scenario.server.map(|_| NBD_SOCKET),
            folder: &self.folder.path,
        };
        Machine::boot(&hardware, Duration::from_secs(args.seconds))
    }
}

impl Program {
    /// Returns the name, on the host and in the guest.
    fn name(self) -> &'static str {
        match self {
            Self::Worker => "guest-worker",
            Self::MemoryFailure => "memory-failure",
        }
    }

    /// Builds the program with assertions and without shared libraries, which the guest lacks.
    fn build(self) -> Result<PathBuf> {
        let mut cargo = shell::cargo("rustc");
        match self {
            Self::Worker => cargo.args(["-p", env!("CARGO_PKG_NAME")]),
            Self::MemoryFailure => cargo.args(["-p", TESTKIT, "--features", "memory-failure"]),
        };
        cargo.args(["--bin", self.name(), "--message-format", "json-render-diagnostics"]);
        cargo.args(["--", "-C", "target-feature=+crt-static", "-C", "strip=debuginfo"]);
        server::built(&mut cargo)
    }
}

/// Runs `work`, and `background` in another thread until `work` is done: it gets a flag that is set
/// then. Returns both results.
pub(crate) fn beside<A: Send, B>(
    background: impl FnOnce(&AtomicBool) -> Result<A> + Send,
    work: impl FnOnce() -> Result<B>,
) -> Result<(B, A)> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| background(&over));
        let done = work();
        // Relaxed: the thread may stop a little later.
        over.store(true, Ordering::Relaxed);
        let ran = thread.join().expect("the thread returns its errors")?;
        Ok((done?, ran))
    })
}

/// Returns an error if a request failed or the server exceeded its memory limit.
pub(crate) fn check_stat(stat: &Stat) -> Result<()> {
    if stat.mem_limit > 0 && stat.mem_used_max > stat.mem_limit {
        bail!("memzip used {} bytes, but its limit is {}", stat.mem_used_max, stat.mem_limit);
    }
    match stat.failures() {
        0 => Ok(()),
        failures => {
            bail!("{failures} requests to memzip failed: {:?}, {:?}", stat.io, stat.nbd.errors)
        }
    }
}
