//! A control plane over its real socket, with a real disk behind it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use block::{BlockDevice, Bytes, Span};
use nbd::{Listen, Server, ServerConfig};
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use zram::{Zram, ZramConfig};

use super::super::{
    ClientLimits, ControlPlane, Maintenance, MaintenanceConfig, Routes, ServerState,
};

/// Pages of the disk under test.
pub(super) const PAGES: u64 = 2048;

/// Its memory limit.
pub(super) const LIMIT: Bytes = Bytes(64 << 20);

/// A control plane in its own folder.
pub(super) struct Fixture {
    pub(super) disk: Arc<Zram>,
    pub(super) state: Arc<ServerState>,
    // Dropped before the folder: it removes its socket from there.
    pub(super) plane: ControlPlane,
    pub(super) folder: TempDir,
}

/// The parts of a fixture without its control plane.
type Parts = (Arc<Zram>, Arc<ServerState>, TempDir);

impl Fixture {
    /// Starts a disk with a memory limit and its control plane.
    pub(super) fn start(limits: ClientLimits) -> Self {
        let parts = Self::parts(Some(LIMIT));
        let routes = Routes::new(Arc::clone(&parts.1));
        Self::of(parts, routes, limits)
    }

    /// Starts the control plane.
    pub(super) fn of(parts: Parts, routes: Routes, limits: ClientLimits) -> Self {
        let (disk, state, folder) = parts;
        let plane = ControlPlane::with_limits(folder.path().join("control"), routes, limits)
            .expect("it starts");
        Self { disk, state, plane, folder }
    }

    /// Starts a disk without a control plane.
    pub(super) fn parts(mem_limit: Option<Bytes>) -> Parts {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let algorithm = "lz4".parse().expect("known");
        let config = ZramConfig { algorithm, mem_limit, ..ZramConfig::new(Bytes(PAGES * 4096)) };
        let disk = Arc::new(Zram::new(config).expect("a small disk"));
        let state = Self::state(&disk, folder.path().join("nbd"), MaintenanceConfig::default());
        (disk, state, folder)
    }

    /// Serves the disk at a unix socket, with this maintenance.
    pub(super) fn state(
        disk: &Arc<Zram>,
        nbd: PathBuf,
        maintenance: MaintenanceConfig,
    ) -> Arc<ServerState> {
        let server =
            Server::bind(Listen::Unix(nbd), Arc::clone(disk) as _, ServerConfig::default())
                .expect("a free path");
        let maintenance = Maintenance::start(disk, maintenance).expect("a valid configuration");
        Arc::new(ServerState::new(Arc::clone(disk), maintenance, &server))
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    /// Connects a client that has sent nothing yet.
    pub(super) fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).expect("a listening socket")
    }

    /// Returns the range of a page.
    pub(super) fn span(&self, page: u64) -> Span {
        Span::new(page * 4096, 4096, self.disk.size()).expect("inside")
    }

    /// Writes pages that compress to about a third, then discards every second one.
    pub(super) fn fill_and_thin(&self) {
        for page in 0..PAGES {
            let text: String = (0..600)
                .map(|word| format!("{:x}", (page + 1) * (word + 7) * 2_654_435_761))
                .collect();
            self.disk.write(self.span(page), &text.as_bytes()[..4096]).expect("room");
        }
        (0..PAGES)
            .step_by(2)
            .for_each(|page| self.disk.discard(self.span(page)).expect("a writable disk"));
    }

    /// Sends a raw request; returns the status, the headers and the body.
    pub(super) fn raw(&self, request: &str) -> (u16, String, String) {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("room in the socket");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer in ASCII");
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("{answer:?} is not an HTTP answer"));
        let status =
            head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status line");
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    /// Sends a `GET`; returns the status, the headers and the body.
    pub(super) fn get(&self, path: &str) -> (u16, String, String) {
        self.raw(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"))
    }

    /// Sends a `POST`; returns the status and the body.
    pub(super) fn post(&self, path: &str, body: &str) -> (u16, String) {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let (status, _, body) = self.raw(&request);
        (status, body)
    }

    /// Sends a `POST` that must succeed; returns the answer.
    pub(super) fn posted<T: DeserializeOwned>(&self, path: &str, body: &str) -> T {
        let (status, answer) = self.post(path, body);
        assert_eq!(status, 200, "{body}: {answer}");
        serde_json::from_str(&answer).expect("JSON")
    }

    /// Checks that a `POST` of `body` is refused as invalid, with an answer that says `why`.
    pub(super) fn assert_refused(&self, path: &str, body: &str, why: &[&str]) {
        let (status, answer) = self.post(path, body);
        assert_eq!(status, 400, "{body}: {answer}");
        assert!(why.iter().all(|part| answer.contains(part)), "{body}: {answer}");
    }

    /// Checks that a `GET` of the path is refused and `POST` is offered.
    pub(super) fn assert_post_only(&self, path: &str) {
        let (status, head, _) = self.get(path);
        assert!(status == 405 && head.contains("allow: post"), "{head}");
    }
}
