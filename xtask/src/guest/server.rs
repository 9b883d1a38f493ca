//! The memzip server behind the guest's second disk, asked through its own commands.

use super::process::Process;
use crate::{packages, shell};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Relative to the server's folder, since the name of a socket may have only about a hundred letters.
pub const NBD_SOCKET: &str = "nbd.sock";
const CONTROL_SOCKET: &str = "control.sock";
/// How long a server may take to get ready.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two compactions of those that follow each other.
const COMPACTION_PAUSE: Duration = Duration::from_millis(100);

/// A running server. It is stopped when dropped.
pub struct Server {
    binary: PathBuf,
    folder: PathBuf,
    _process: Process,
}

/// The part of `memzip stat --json` the experiment looks at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stat {
    pub disksize: u64,
    pub comp_algorithm: String,
    pub orig_data_size: u64,
    pub compr_data_size: u64,
    pub mem_used_total: u64,
    pub mem_used_max: u64,
    pub mem_total: u64,
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

/// The numbers of one part of the statistics; what is no number reads as 0.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counts(BTreeMap<String, serde_json::Value>);

impl Counts {
    /// A number by its name; 0 where the server does not tell it.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0)
    }
}

/// What went wrong between QEMU and the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Nbd {
    pub errors: BTreeMap<String, u64>,
}

/// The part of `memzip compact --json` the experiment looks at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Compaction {
    pub outcome: String,
    pub objects_moved: u64,
    pub frames_freed: u64,
    pub frames_moved: u64,
    pub duration_us: u64,
}

/// Builds the optimised binary and says where it is.
pub fn build() -> Result<PathBuf> {
    let mut cargo = shell::cargo("build");
    cargo.args([
        "--release",
        "-p",
        packages::BINARY,
        "--bins",
        "--message-format",
        "json-render-diagnostics",
    ]);
    built(&mut cargo)
}

/// Runs a cargo command that builds one program, and returns that program's path.
pub fn built(cargo: &mut Command) -> Result<PathBuf> {
    eprintln!("$ {}", shell::line(cargo));
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("`{}` ended with {}", shell::line(cargo), output.status);
    }
    let told = String::from_utf8_lossy(&output.stdout);
    let binary = told.lines().filter_map(executable).next_back();
    binary.context("cargo built no binary")
}

/// The program that one of cargo's messages is about.
fn executable(message: &str) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
    }
    serde_json::from_str::<Message>(message).ok()?.executable
}

impl Server {
    /// Serves a disk from `folder` with these options and waits until it is ready.
    pub fn start(binary: &Path, folder: &Path, options: &[&str]) -> Result<Self> {
        for socket in [NBD_SOCKET, CONTROL_SOCKET] {
            let path = folder.join(socket);
            if path.exists() {
                std::fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        let sockets = ["serve", "--unix", NBD_SOCKET, "--control", CONTROL_SOCKET];
        let mut process = Process::start(binary, sockets.iter().chain(options), folder)?;
        // Its first line is the disk's URI; it is printed when clients may come.
        let ready = process.lines().recv_timeout(START_TIMEOUT);
        ready.context("the server did not get ready: it ended, or took too long")?;
        Ok(Self { binary: binary.to_path_buf(), folder: folder.to_path_buf(), _process: process })
    }

    /// `memzip stat`.
    pub fn stat(&self) -> Result<Stat> {
        self.ask("stat")
    }

    /// `memzip compact`.
    pub fn compact(&self) -> Result<Compaction> {
        self.ask("compact")
    }

    /// Has the server compact again and again until told to stop; returns how often.
    pub fn compact_until(&self, over: &AtomicBool) -> Result<u32> {
        let mut compactions = 0;
        // Relaxed: the loop only ends a little sooner or later.
        while !over.load(Ordering::Relaxed) {
            self.compact()?;
            compactions += 1;
            std::thread::sleep(COMPACTION_PAUSE);
        }
        Ok(compactions)
    }

    /// `POST /v1/balloon`: how large the balloon should be. Units: bytes.
    pub fn set_balloon(&self, target: u64) -> Result<()> {
        let folder = File::open(&self.folder).context("the server's folder is gone")?;
        // Short however deep the folder lies.
        let socket = format!("/proc/self/fd/{}/{CONTROL_SOCKET}", folder.as_raw_fd());
        let mut stream = UnixStream::connect(socket).context("the server does not answer")?;
        let body = format!("{{\"target\": {target}}}");
        let head = format!(
            "POST /v1/balloon HTTP/1.1\r\nhost: memzip\r\ncontent-length: {}\r\n",
            body.len()
        );
        stream
            .write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes())
            .context("it does not listen")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("its answer broke off")?;
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
            .with_context(|| format!("`{}` answered something unexpected", shell::line(&command)))
    }
}

impl Stat {
    /// Requests that failed, of any kind; a sound run has none.
    pub fn failures(&self) -> u64 {
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
    fn failed_requests_are_counted_and_others_are_not() {
        let text = r#"{"disksize":1,"comp_algorithm":"lz4","orig_data_size":0,"compr_data_size":0,"mem_used_total":0,"mem_used_max":0,
            "mem_total":0,"mem_limit":0,"rss":null,"memory":{"live":0},"buddyinfo":"",
            "io":{"reads":7,"writes":9,"failed_reads":1,"failed_writes":2,"invalid_io":4,"notify_free":5},
            "nbd":{"connections":1,"errors":{"eio":8,"enospc":16}}}"#;
        let stat: Stat = serde_json::from_str(text).expect("fields of no interest are passed over");
        assert_eq!(stat.failures(), 1 + 2 + 4 + 8 + 16);
    }
}
