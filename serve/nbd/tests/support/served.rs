//! A server in this process, which is shut down and checked at the end of a test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use block::BlockDevice;
use nbd::{Handle, Listen, NbdError, RefusalLog, Server, ServerConfig};

use super::client::Client;
use super::disk::Disk;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A temporary directory of one test, removed on drop.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Creates the directory.
    pub(crate) fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("nbd-test-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("a directory for the test");
        Self(path)
    }

    /// Returns the path of `name` in the directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running server.
pub(crate) struct Served {
    /// The server's URI.
    pub uri: String,
    /// A handle to shut the server down and to read its counters.
    pub handle: Handle,
    path: PathBuf,
    thread: Option<JoinHandle<Result<(), NbdError>>>,
    /// The test's directory.
    pub folder: Folder,
}

impl Served {
    /// Serves a new disk of `size` bytes on a unix socket. Returns both.
    pub(crate) fn disk(size: u64) -> (Arc<Disk>, Self) {
        let disk = Arc::new(Disk::new(size));
        let served = Self::unix(disk.clone());
        (disk, served)
    }

    /// Serves `device` on a unix socket.
    pub(crate) fn unix(device: Arc<dyn BlockDevice>) -> Self {
        Self::with(device, ServerConfig::default())
    }

    /// Serves `device` on a unix socket with `config`.
    pub(crate) fn with(device: Arc<dyn BlockDevice>, config: ServerConfig) -> Self {
        Self::prepared(device, config, |_| ())
    }

    /// Serves `device` on a unix socket with `config` and a log of refusals.
    pub(crate) fn logging(
        device: Arc<dyn BlockDevice>,
        config: ServerConfig,
        log: RefusalLog,
    ) -> Self {
        Self::prepared(device, config, |server| server.log_refusals(log))
    }

    fn prepared(
        device: Arc<dyn BlockDevice>,
        config: ServerConfig,
        prepare: impl FnOnce(&Server),
    ) -> Self {
        let folder = Folder::new();
        let path = folder.file("nbd.sock");
        let server =
            Server::bind(Listen::Unix(path.clone()), device, config).expect("the server starts");
        prepare(&server);
        Self::start(server, path, folder)
    }

    /// Serves `device` on a free TCP port of the loopback address.
    pub(crate) fn tcp(device: Arc<dyn BlockDevice>) -> Self {
        let listen = Listen::Tcp("127.0.0.1:0".parse().unwrap());
        let server =
            Server::bind(listen, device, ServerConfig::default()).expect("the server starts");
        Self::start(server, PathBuf::new(), Folder::new())
    }

    fn start(server: Server, path: PathBuf, folder: Folder) -> Self {
        let (uri, handle) = (server.uri().to_owned(), server.handle());
        let thread = Some(thread::spawn(move || server.run()));
        Self { uri, handle, path, thread, folder }
    }

    /// Connects two clients, one with simple and one with structured replies.
    pub(crate) fn both(&self) -> [Client; 2] {
        [Client::simple(&self.path), Client::structured(&self.path)]
    }

    /// Returns the address of a server on a TCP port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.uri.strip_prefix("nbd://").and_then(|address| address.parse().ok()).expect("TCP")
    }

    /// Returns the path of the unix socket.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Shuts the server down and waits for its end.
    pub(crate) fn stop(&mut self) {
        self.handle.shutdown();
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .expect("the server does not panic")
                .expect("the server ends without an error");
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.stop();
        }
    }
}

/// Waits until `done` returns true. Panics after a minute; `what` names what it waits for.
pub(crate) fn eventually(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "timed out waiting for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
