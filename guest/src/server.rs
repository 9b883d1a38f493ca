//! The memzip server of the guest's disk, controlled by its own commands.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::process::Process;

/// Name of the NBD socket. It is relative to the server's folder, because the path of a unix socket
/// is limited to about a hundred bytes.
pub(crate) const NBD_SOCKET: &str = "nbd.sock";
const CONTROL_SOCKET: &str = "control.sock";
/// Time in which a server must start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Time between two compactions.
const COMPACTION_PAUSE: Duration = Duration::from_millis(100);

/// A running server, which is stopped when dropped.
pub(crate) struct Server {
    binary: PathBuf,
    folder: PathBuf,
    _process: Process,
}

/// The part of `memzip stat --json` that the experiments read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stat {
    pub disksize: u64,
    pub comp_algorithm: String,
    pub orig_data_size: u64,
    pub compr_data_size: u64,
    pub mem_used_total: u64,
    pub mem_used_max: u64,
    pub mem_total: u64,
    pub mem_reserved: u64,
    pub mem_limit: u64,
    pub rss: Option<u64>,
    pub memory: BTreeMap<String, u64>,
    pub io: BTreeMap<String, u64>,
    pub nbd: Nbd,
    pub buddyinfo: String,
    #[serde(default)]
    pub vmstat: BTreeMap<String, u64>,
    #[serde(default)]
    pub compaction: Counts,
    #[serde(default)]
    pub balloon: Counts,
    #[serde(default)]
    pub hot_cache: Counts,
}

/// The numbers of one part of the statistics; other values read as 0.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Counts(BTreeMap<String, serde_json::Value>);

impl Counts {
    /// Returns a number by its name, 0 if it is missing.
    pub(crate) fn get(&self, name: &str) -> u64 {
        self.0.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0)
    }
}

/// Error counts of the NBD server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Nbd {
    pub errors: BTreeMap<String, u64>,
}

/// The part of `memzip compact --json` that the experiments read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Compaction {
    pub outcome: String,
    pub objects_moved: u64,
    pub frames_freed: u64,
    pub frames_moved: u64,
    pub duration_us: u64,
}

/// Builds the binary in release mode and returns its path.
pub(crate) fn build() -> Result<PathBuf> {
    let mut cargo = shell::cargo("build");
    cargo.args([
        "--release",
        "-p",
        "memzip",
        "--bins",
        "--message-format",
        "json-render-diagnostics",
    ]);
    built(&mut cargo)
}

/// Runs a cargo command that builds one program, and returns the program's path.
pub(crate) fn built(cargo: &mut Command) -> Result<PathBuf> {
    eprintln!("$ {}", shell::line(cargo));
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("`{}` ended with {}", shell::line(cargo), output.status);
    }
    let told = String::from_utf8_lossy(&output.stdout);
    let binary = told.lines().filter_map(executable).next_back();
    binary.context("cargo built no binary")
}

/// Returns the program of one of cargo's messages.
fn executable(message: &str) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
    }
    serde_json::from_str::<Message>(message).ok()?.executable
}

impl Server {
    /// Starts a server in `folder` with these options and waits until it is ready.
    pub(crate) fn start(binary: &Path, folder: &Path, options: &[&str]) -> Result<Self> {
        for socket in [NBD_SOCKET, CONTROL_SOCKET] {
            let path = folder.join(socket);
            if path.exists() {
                std::fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        let sockets = ["serve", "--unix", NBD_SOCKET, "--control", CONTROL_SOCKET];
        let mut process = Process::start(binary, sockets.iter().chain(options), folder)?;
        // The first line is the disk's URI, printed when the server accepts clients.
        let ready = process.lines().recv_timeout(START_TIMEOUT);
        ready.context("the server exited or did not start in time")?;
        Ok(Self { binary: binary.to_path_buf(), folder: folder.to_path_buf(), _process: process })
    }

    /// Runs `memzip stat`.
    pub(crate) fn stat(&self) -> Result<Stat> {
        self.ask("stat")
    }

    /// Runs `memzip compact`.
    pub(crate) fn compact(&self) -> Result<Compaction> {
        self.ask("compact")
    }

    /// Compacts repeatedly until `over` is set. Returns the number of compactions.
    pub(crate) fn compact_until(&self, over: &AtomicBool) -> Result<u32> {
        let mut compactions = 0;
        // Relaxed: the loop may end a little later.
        while !over.load(Ordering::Relaxed) {
            self.compact()?;
            compactions += 1;
            std::thread::sleep(COMPACTION_PAUSE);
        }
        Ok(compactions)
    }

    /// Sets the balloon's target with `POST /v1/balloon`. Units: bytes.
    pub(crate) fn set_balloon(&self, target: u64) -> Result<()> {
        let folder = File::open(&self.folder).context("cannot open the server's folder")?;
        // The path is short enough for a socket however deep the folder is.
        let socket = format!("/proc/self/fd/{}/{CONTROL_SOCKET}", folder.as_raw_fd());
        let mut stream =
            UnixStream::connect(socket).context("cannot connect to the control socket")?;
        let body = format!("{{\"target\": {target}}}");
        let head = format!(
            "POST /v1/balloon HTTP/1.1\r\nhost: memzip\r\ncontent-length: {}\r\n",
            body.len()
        );
        stream
            .write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes())
            .context("cannot write the request")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("cannot read the response")?;
        if !answer.starts_with("HTTP/1.1 200") {
            bail!("a balloon of {target} bytes was refused: {answer}");
        }
        Ok(())
    }

    fn ask<T: for<'de> Deserialize<'de>>(&self, what: &str) -> Result<T> {
        let mut command = Command::new(&self.binary);
        command.args([what, "--json", "--control", CONTROL_SOCKET]).current_dir(&self.folder);
        let output = command
            .output()
            .with_context(|| format!("cannot start `{}`", shell::line(&command)))?;
        if !output.status.success() {
            bail!(
                "`{}`: {}",
                shell::line(&command),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("`{}` printed unexpected JSON", shell::line(&command)))
    }
}

impl Stat {
    /// Returns the number of failed requests of all kinds; 0 in a correct run.
    pub(crate) fn failures(&self) -> u64 {
        let counted = ["failed_reads", "failed_writes", "invalid_io"];
        let io = counted.iter().filter_map(|name| self.io.get(*name)).sum::<u64>();
        io + self.nbd.errors.values().sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_in_cargos_messages() {
        let library =
            r#"{"reason":"compiler-artifact","executable":null,"filenames":["/t/libx.rlib"]}"#;
        let program =
            r#"{"reason":"compiler-artifact","executable":"/t/release/memzip","filenames":[]}"#;
        assert_eq!(executable(library), None);
        assert_eq!(executable(program), Some(PathBuf::from("/t/release/memzip")));
        assert_eq!(executable(r#"{"reason":"build-finished","success":true}"#), None);
    }

    #[test]
    fn failed_requests_are_counted() {
        let text = r#"{"disksize":1,"comp_algorithm":"lz4","orig_data_size":0,"compr_data_size":0,"mem_used_total":0,"mem_used_max":0,
            "mem_total":0,"mem_reserved":0,"mem_limit":0,"rss":null,"memory":{"live":0},"buddyinfo":"",
            "io":{"reads":7,"writes":9,"failed_reads":1,"failed_writes":2,"invalid_io":4,"notify_free":5},
            "nbd":{"connections":1,"errors":{"eio":8,"enospc":16}}}"#;
        let stat: Stat = serde_json::from_str(text).expect("unknown fields are ignored");
        assert_eq!(stat.failures(), 1 + 2 + 4 + 8 + 16);
    }
}
