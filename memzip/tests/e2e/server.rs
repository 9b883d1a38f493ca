//! A `memzip serve` for one test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::group::Group;

/// Time limit for a server to end.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A running server; killed when dropped, also if the test fails.
pub(crate) struct Server {
    child: Child,
    folder: TempDir,
    uri: String,
}

impl Server {
    /// Starts a server with a disk of this size on a unix socket, with further options of
    /// `memzip serve`.
    pub(crate) fn start(size: &str, options: &[&str]) -> Self {
        Self::on_socket(memzip("serve"), folder(), size, options)
    }

    /// Starts a server as [`Server::start`] does, in a control group.
    pub(crate) fn start_in(group: &Group, size: &str, options: &[&str]) -> Self {
        let mut command = group.command(memzip("serve").get_program());
        command.arg("serve");
        Self::on_socket(command, folder(), size, options)
    }

    /// Starts a server as [`Server::start`] does, through a program that runs other programs.
    pub(crate) fn start_under(program: &str, size: &str) -> Self {
        let mut command = Command::new(program);
        command.arg(memzip("serve").get_program()).arg("serve").stderr(Stdio::null());
        Self::on_socket(command, folder(), size, &[])
    }

    /// Starts a server as [`Server::start`] does, and keeps its standard error for
    /// [`Server::stderr`].
    pub(crate) fn start_with_stderr_file(size: &str, options: &[&str]) -> Self {
        let folder = folder();
        let file = std::fs::File::create(folder.path().join("stderr")).expect("a new file");
        Self::start_with_stderr(file.into(), folder, size, options)
    }

    /// Starts a server as [`Server::start`] does, with a standard error on which each write fails,
    /// as if the terminal were gone.
    pub(crate) fn start_with_closed_stderr(size: &str, options: &[&str]) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        Self::start_with_stderr(writer.into(), folder(), size, options)
    }

    /// Starts a server as [`Server::start`] does, with a full pipe as standard error. The second
    /// value is the other end, which is not read.
    pub(crate) fn start_with_full_stderr(
        size: &str,
        options: &[&str],
    ) -> (Self, std::io::PipeReader) {
        use std::io::Write;
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&writer, true).expect("a pipe can be non-blocking");
        while writer.write(&[b'x'; 4096]).is_ok() {}
        while writer.write(b"x").is_ok() {}
        rustix::io::ioctl_fionbio(&writer, false).expect("a pipe can be blocking");
        (Self::start_with_stderr(writer.into(), folder(), size, options), reader)
    }

    fn start_with_stderr(stderr: Stdio, folder: TempDir, size: &str, options: &[&str]) -> Self {
        let mut command = memzip("serve");
        command.stderr(stderr);
        Self::on_socket(command, folder, size, options)
    }

    /// Returns the standard error so far of a server of [`Server::start_with_stderr_file`].
    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr"))
            .expect("a server of start_with_stderr_file")
    }

    /// Returns the number of the server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts a server on a TCP port of the loopback interface.
    pub(crate) fn start_on_tcp(size: &str, port: u16) -> Self {
        let mut command = memzip("serve");
        command.args(["--port", &port.to_string(), "--size", size]);
        Self::spawn(folder(), command, &[])
    }

    /// Adds a unix socket and the size to a command that runs `memzip serve`.
    fn on_socket(mut command: Command, folder: TempDir, size: &str, options: &[&str]) -> Self {
        command.arg("--unix").arg(folder.path().join("disk.sock")).args(["--size", size]);
        Self::spawn(folder, command, options)
    }

    fn spawn(folder: TempDir, mut command: Command, options: &[&str]) -> Self {
        command.arg("--control").arg(folder.path().join("control.sock")).args(options);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("memzip can be started");
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("memzip prints text");
        let uri = line.split_whitespace().find(|word| word.starts_with("nbd"));
        let uri =
            uri.unwrap_or_else(|| panic!("memzip serve printed no URI but {line:?}")).to_owned();
        Server { child, folder, uri }
    }

    /// Returns the NBD URI of the disk.
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// Returns the folder for the test's files; it is removed with the server.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the path of the NBD socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("disk.sock")
    }

    /// Returns the path of the control socket.
    pub(crate) fn control(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    /// Returns the resident memory of the server's process. Units: bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))
            .expect("the server runs");
        let line = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Rss:"))
            .expect("smaps_rollup has a line Rss");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("Rss is a number of kB");
        kib * 1024
    }

    /// Panics if the server has ended.
    pub(crate) fn assert_alive(&mut self) {
        let status = self.child.try_wait().expect("a child process");
        assert_eq!(status, None, "the server ended");
    }

    /// Sends a signal to the server.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("not zero");
        rustix::process::kill_process(pid, signal).expect("the server runs");
    }

    /// Waits until the server has ended and returns its status.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        while start.elapsed() < TIMEOUT {
            if let Some(status) = self.child.try_wait().expect("a child process") {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server is still there {} s after the signal", TIMEOUT.as_secs());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The server may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Returns a command that runs a subcommand of the binary under test.
pub(crate) fn memzip(subcommand: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memzip"));
    command.arg(subcommand);
    command
}
