//! The servers under load: processes that end when dropped.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::{Connection, Target};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::context::Context;

/// Time in which a server must start or end.
const PROCESS_TIMEOUT: Duration = Duration::from_secs(20);

/// Number of threads that handle the requests of a connection in nbdkit (`--threads`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Threads(pub u32);

/// A server process on a unix socket in its own folder.
pub(crate) struct Server {
    child: Child,
    folder: PathBuf,
    program: PathBuf,
}

impl Server {
    /// Starts `memzip serve` with this algorithm.
    pub(crate) fn memzip(
        context: &Context,
        algorithm: &str,
        size: u64,
    ) -> Result<Self, Box<dyn Error>> {
        Self::memzip_with(context, algorithm, size, &[])
    }

    /// Starts `memzip serve` with this algorithm and further options.
    pub(crate) fn memzip_with(
        context: &Context,
        algorithm: &str,
        size: u64,
        options: &[&str],
    ) -> Result<Self, Box<dyn Error>> {
        let program = context.programs.join("memzip");
        let folder = folder(&format!("memzip-{algorithm}"))?;
        let mut command = Command::new(&program);
        command
            .arg("serve")
            .arg("--unix")
            .arg(folder.join("nbd"))
            .arg("--control")
            .arg(folder.join("control"));
        command
            .args(["--size", &size.to_string(), "--algorithm", algorithm])
            .args(options)
            .stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            format!("{}: {error}; `cargo xtask bench` builds it", program.display())
        })?;
        // The server prints its address when it accepts clients.
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let server = Self { child, folder, program };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if !line.contains("nbd+unix:") {
            return Err(format!("memzip serve did not print its address but: {line}").into());
        }
        Ok(server)
    }

    /// Starts nbdkit's memory plugin with this allocator.
    pub(crate) fn nbdkit(
        allocator: &str,
        threads: Threads,
        size: u64,
    ) -> Result<Self, Box<dyn Error>> {
        let folder = folder(&format!("nbdkit-{allocator}"))?;
        let mut command = Command::new("nbdkit");
        command
            .args([
                "--foreground",
                "--exit-with-parent",
                "--threads",
                &threads.0.to_string(),
                "--unix",
            ])
            .arg(folder.join("nbd"))
            .args(["memory", &format!("size={size}"), &format!("allocator={allocator}")]);
        Self::of_others(command, folder)
    }

    /// Starts qemu-nbd with a sparse raw file in memory, uncompressed.
    pub(crate) fn qemu_nbd(size: u64) -> Result<Self, Box<dyn Error>> {
        let folder = folder("qemu-nbd")?;
        // The file is in /dev/shm, so that no disk is measured. It is unlinked once qemu has it
        // open.
        let image = PathBuf::from(format!("/dev/shm/bench-{}.raw", std::process::id()));
        std::fs::File::create_new(&image)
            .and_then(|file| file.set_len(size))
            .map_err(|error| format!("{}: {error}", image.display()))?;
        let mut command = Command::new("qemu-nbd");
        command.args([
            "--persistent",
            "--shared=8",
            "--format=raw",
            "--cache=writeback",
            "--discard=unmap",
            "--socket",
        ]);
        command.arg(folder.join("nbd")).arg(&image);
        let server = Self::of_others(command, folder);
        std::fs::remove_file(&image)?;
        server
    }

    /// Starts a server that does not report when it is ready.
    fn of_others(mut command: Command, folder: PathBuf) -> Result<Self, Box<dyn Error>> {
        let program = PathBuf::from(command.get_program());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = child.map_err(|error| format!("{}: {error}", program.display()))?;
        let server = Self { child, folder, program };
        let start = Instant::now();
        while Connection::<()>::open(&server.target()).is_err() {
            if start.elapsed() > PROCESS_TIMEOUT {
                return Err(format!("{} does not answer", server.program.display()).into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Returns the address of the server.
    pub(crate) fn target(&self) -> Target {
        Target::Unix(self.folder.join("nbd"))
    }

    /// Returns the resident bytes, from `smaps_rollup`.
    pub(crate) fn resident(&self) -> Result<f64, Box<dyn Error>> {
        Ok(sys::rss::of_pid(self.child.id()).ok_or("the server has exited")? as f64)
    }

    /// Returns the output of `memzip stat --json`.
    pub(crate) fn stat(&self) -> Result<Value, Box<dyn Error>> {
        let output = Command::new(&self.program)
            .args(["stat", "--json", "--control"])
            .arg(self.folder.join("control"))
            .output()?;
        if !output.status.success() {
            return Err(format!("memzip stat: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ask the server to exit, and kill it when the time is over.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > PROCESS_TIMEOUT {
                eprintln!("bench: {} does not end; killing it", self.program.display());
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
            thread::sleep(Duration::from_millis(5));
        }
        // The folder belongs to this server; it may still contain sockets.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Creates a private folder for sockets.
fn folder(name: &str) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Relaxed: the numbers only have to be distinct.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!(
        "bench-{}-{number}-{}",
        std::process::id(),
        name.replace(':', "-")
    ));
    std::fs::DirBuilder::new().mode(0o700).create(&path)?;
    Ok(path)
}

/// Returns whether a program is in the PATH.
pub(crate) fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| is_file(&folder.join(program)))
    })
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file())
}

/// Ensures that nbdkit is installed. `Err` is the reason why it is not.
pub(crate) fn need_nbdkit() -> Result<(), String> {
    need("nbdkit", "nbdkit")
}

/// Ensures that a program is installed: root on a Debian machine installs it. `Err` is the reason
/// why
/// it is not.
pub(crate) fn need(program: &str, package: &str) -> Result<(), String> {
    if is_installed(program) {
        return Ok(());
    }
    let is_root = rustix::process::geteuid().is_root();
    if is_root && is_installed("apt-get") {
        eprintln!("installing {package}");
        let install = Command::new("apt-get")
            .args(["install", "-y", "-q", package])
            .stdout(Stdio::null())
            .status();
        if install.is_ok_and(|status| status.success()) && is_installed(program) {
            return Ok(());
        }
    }
    Err(format!("{program} is not installed: `apt-get install {package}` as root"))
}
