//! Tests the load generator against a foreign server, nbdkit's memory plugin. Prints `SKIPPED`
//! where nbdkit is not installed.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::{ClientError, Connection, Target};
use testkit::nbd::{Check, DiskModel, Load, LoadError, Workload};
use testkit::{PAGE_SIZE, sample};

/// Length of the disk, 8 MiB. Units: pages.
const DISK: u64 = 2048;

struct Nbdkit {
    child: Child,
    socket: PathBuf,
}

impl Nbdkit {
    /// Starts a server. Returns `None` when nbdkit is not installed.
    fn start(name: &str) -> Option<Self> {
        let socket = std::env::temp_dir().join(format!("testkit-{}-{name}", std::process::id()));
        let child = Command::new("nbdkit")
            .args(["--foreground", "--exit-with-parent", "--unix"])
            .arg(&socket)
            .args(["memory", &format!("size={}", DISK * PAGE_SIZE as u64)])
            .stdin(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            eprintln!("SKIPPED: nbdkit is not installed (apt-get install nbdkit)");
            return None;
        };
        let server = Self { child, socket };
        let start = Instant::now();
        while Connection::<()>::open(&server.target()).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "nbdkit does not answer");
            thread::sleep(Duration::from_millis(10));
        }
        Some(server)
    }

    fn target(&self) -> Target {
        Target::Unix(self.socket.clone())
    }
}

impl Drop for Nbdkit {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

#[test]
fn every_workload_is_read_back_as_written() {
    let Some(server) = Nbdkit::start("found") else { return };
    let (target, pages) = (server.target(), sample(256, 1));
    assert_eq!(
        Connection::<()>::open(&target).expect("listening").export().size,
        DISK * PAGE_SIZE as u64
    );
    let model = DiskModel::new(&pages, DISK * PAGE_SIZE as u64);
    let whole = |work| Load::whole_disk(&target, work).run(&model).expect("every byte as written");
    whole(Workload::ReadAll);
    for work in [
        Workload::Fill,
        Workload::Overwrite,
        Workload::RandomWrites,
        Workload::TrimAll,
        Workload::Fill,
    ] {
        let time = Duration::from_millis(100);
        let load = Load { connections: 3, time, ..Load::whole_disk(&target, work.clone()) };
        let report = load.run(&model).expect("every request succeeds");
        assert!(report.requests > 0 && report.rate() > 0.0, "{work:?}");
        whole(Workload::ReadAll);
    }
    let time = Duration::from_millis(100);
    let reads = Load {
        connections: 2,
        depth: 32,
        time,
        ..Load::whole_disk(&target, Workload::RandomReads)
    };
    let report = reads.run(&model).expect("every byte as written");
    assert!(report.latency.percentile(50.0) <= report.latency.percentile(99.0));
}

#[test]
fn a_wrong_page_is_detected() {
    let Some(server) = Nbdkit::start("detected") else { return };
    let (target, pages) = (server.target(), sample(256, 2));
    let model = DiskModel::new(&pages, DISK * PAGE_SIZE as u64);
    Load::whole_disk(&target, Workload::Fill).run(&model).expect("fills");
    // Record another page, as if the server had lost a write to page 77.
    model.set(77, 3);
    let uncompared = Load { check: Check::Length, ..Load::whole_disk(&target, Workload::ReadAll) };
    uncompared.run(&model).expect("lengths are right");
    // This comes last: it ends with requests in flight, and some versions of nbdkit crash on
    // that.
    let outcome = Load::whole_disk(&target, Workload::ReadAll).run(&model);
    assert!(matches!(outcome, Err(LoadError::Mismatch { page: 77 })), "{outcome:?}");
}

#[test]
fn a_missing_server_is_a_typed_error() {
    let pages = sample(2, 3);
    let target = Target::Unix("/nonexistent/socket".into());
    let outcome = Load::whole_disk(&target, Workload::Fill).run(&DiskModel::new(&pages, 8192));
    assert!(matches!(outcome, Err(LoadError::Client(ClientError::Connect { .. }))), "{outcome:?}");
}
