//! `memzip demo`: shows the disk on real files in half a minute.
//!
//! This process serves the disk, but every byte crosses a real NBD socket: load real files, read
//! them back, delete every second page, compact, read the rest back. Each page is hashed when it is
//! sent, so files may change meanwhile, and compared each time it is read. The report is printed
//! only if every byte matched.

mod client;
mod report;
mod transfer;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use block::Bytes;
use nbd::{Listen, NbdError, Server, ServerConfig};
use zram::{Zram, ZramConfig};

use crate::cli::Demo;
use crate::control::change_json::{CompactReport, CompactRequest};
use crate::control::stat_json::StatReport;
use crate::control::{Maintenance, MaintenanceConfig, ServerState};
use crate::corpus::{Corpus, PAGE};
use crate::output;
use crate::runtime_dir::{NBD, RuntimeDir};
use crate::sizes::{grouped, human};
use report::{DemoSteps, Report, Snapshot, Traffic};
use transfer::{Deleted, Digests, Target};

/// Lower bound of the load when memory is short. Units: bytes.
const SMALLEST_LOAD: u64 = 4 << 20;
/// Time limit of the compaction.
const COMPACTION_BUDGET: Duration = Duration::from_secs(60);

/// Runs the demo.
///
/// # Errors
/// The demo cannot run, or a byte did not match.
pub(crate) fn run(args: &Demo) -> Result<Report> {
    let corpus = Corpus::find(&args.paths, load_limit(args.size.0))?;
    let disk = Disk::start(args, corpus.bytes)?;
    let report = run_steps(&corpus, &disk, &args.paths);
    let stopped = disk.stop();
    // An error of the steps says more than one of the shutdown after it.
    report.and_then(|report| stopped.map(|()| report))
}

/// Returns the requested size, or half of the available memory if that is less.
fn load_limit(requested: u64) -> u64 {
    let available =
        sys::host::available_memory().into_iter().chain(sys::host::cgroup_memory_limit()).min();
    available
        .map_or(requested, |bytes| requested.min((bytes / 2).max(SMALLEST_LOAD)))
        .max(PAGE as u64)
}

fn run_steps(corpus: &Corpus, disk: &Disk, paths: &[PathBuf]) -> Result<Report> {
    let bytes = corpus.bytes;
    let target = Target { socket: &disk.socket, bytes, digests: &Digests::new(bytes) };
    let mut steps = DemoSteps::default();
    let start = disk.snapshot("at the start");
    let (incomplete, _) = steps.run(
        "write every page",
        Traffic::Content(bytes),
        |bar| transfer::load(target, corpus.reader(), bar),
        |(_, reading)| format!("reading the files took {} of this", report::seconds(*reading)),
    )?;
    let loaded = disk.snapshot("loaded");
    steps.run(
        "read all back, compare",
        Traffic::Content(bytes),
        |bar| transfer::verify(target, Deleted::Nothing, bar),
        |pages| format!("{} pages are equal", grouped(*pages)),
    )?;
    steps.run(
        "delete every second page",
        Traffic::Requests(bytes),
        |bar| transfer::delete(target, Deleted::EverySecondPage, bar),
        |pages| format!("{} pages, one trim request each", grouped(*pages)),
    )?;
    let deleted = disk.snapshot("half deleted");
    steps.run(
        "compact",
        Traffic::None,
        |_| Ok(disk.state.compact(CompactRequest::default(), COMPACTION_BUDGET)),
        compaction_note,
    )?;
    let compacted = disk.snapshot("compacted");
    steps.run(
        "read all back, compare",
        Traffic::Content(bytes),
        |bar| transfer::verify(target, Deleted::EverySecondPage, bar),
        |pages| format!("{} pages are equal; those deleted read as zeros", grouped(*pages)),
    )?;
    steps.run(
        "delete everything",
        Traffic::Requests(bytes),
        |bar| transfer::delete(target, Deleted::Everything, bar),
        |requests| format!("{} trim requests", grouped(*requests)),
    )?;
    let emptied = disk.snapshot("emptied");
    let files = files_line(corpus, incomplete, paths);
    let StatReport { comp_algorithm, uri, .. } = &start.stat;
    let (size, connections) = (human(start.stat.disksize), transfer::CONNECTIONS);
    let disk = format!("{size}, {comp_algorithm}, {connections} connections to {uri}");
    Ok(Report { files, disk, steps, snapshots: [start, loaded, deleted, compacted, emptied] })
}

fn compaction_note(done: &CompactReport) -> String {
    let back = human(done.mem_total_before.saturating_sub(done.mem_total_after));
    format!(
        "{} objects and {} frames moved, {back} released",
        grouped(done.object_work.objects_moved),
        grouped(done.frame_work.frames_moved)
    )
}

fn files_line(corpus: &Corpus, incomplete: u64, paths: &[PathBuf]) -> String {
    let (files, from) = (grouped(corpus.files), output::list(paths));
    let mut line = format!("{files} files from {from}, {}", human(corpus.bytes));
    if corpus.unreadable > 0 {
        line += &format!(" ({} unreadable ones left out)", grouped(corpus.unreadable));
    }
    if incomplete > 0 {
        line += &format!(" ({incomplete} not read to the end: zeros instead)");
    }
    line
}

/// A disk served on its own socket.
struct Disk {
    state: ServerState,
    server: nbd::Handle,
    thread: JoinHandle<Result<(), NbdError>>,
    socket: PathBuf,
}

impl Disk {
    fn start(args: &Demo, bytes: u64) -> Result<Self> {
        let config = ZramConfig { algorithm: args.algorithm, ..ZramConfig::new(Bytes(bytes)) };
        let disk = Arc::new(Zram::new(config).context("cannot make the disk")?);
        let socket = RuntimeDir::open()?.socket(NBD);
        let listen = Listen::Unix(socket.clone());
        let server = Server::bind(listen, Arc::clone(&disk) as _, ServerConfig::default())
            .with_context(|| format!("cannot serve at {}", socket.display()))?;
        let maintenance = Maintenance::start(&disk, MaintenanceConfig::default())?;
        let state = ServerState::new(disk, maintenance, &server);
        let handle = server.handle();
        let thread = std::thread::Builder::new()
            .name("server".into())
            .spawn(move || server.run())
            .context("cannot start the server's thread")?;
        Ok(Self { state, server: handle, thread, socket })
    }

    fn snapshot(&self, name: &'static str) -> Snapshot {
        Snapshot { name, stat: self.state.stat() }
    }

    fn stop(self) -> Result<()> {
        self.server.shutdown();
        let ended = self.thread.join();
        ensure!(ended.is_ok(), "the server panicked");
        ended.unwrap_or(Ok(())).context("the server failed")
    }
}
