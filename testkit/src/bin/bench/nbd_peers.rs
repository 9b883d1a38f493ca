//! The servers that are measured over NBD: memzip, nbdkit's memory plugin with its best number of
//! threads, and qemu-nbd on a file in memory.

use std::error::Error;
use std::time::Duration;

use nbd_client::Target;
use testkit::nbd::{Check, DiskModel, Load, Workload};
use testkit::{PAGE_SIZE, Page};

use crate::context::{Context, report_progress};
use crate::servers::{Server, Threads, need, need_nbdkit};

/// Numbers of threads that are tried for nbdkit.
const THREADS: [Threads; 4] = [Threads(1), Threads(2), Threads(4), Threads(16)];

/// Pages of the disk of a trial.
const PROBE_PAGES: usize = 8_192;

/// Duration of a trial.
const PROBE_TIME: Duration = Duration::from_millis(200);

/// A server and the expected content of its disk.
pub(crate) struct MeasuredServer<'a> {
    /// The server process.
    pub(crate) server: Server,
    model: DiskModel<'a>,
}

impl<'a> MeasuredServer<'a> {
    /// Fills the server's disk with these pages.
    pub(crate) fn new(pages: &'a [Page], server: Server) -> Result<Self, Box<dyn Error>> {
        let model = DiskModel::new(pages, (pages.len() * PAGE_SIZE) as u64);
        Load::whole_disk(&server.target(), Workload::Fill).run(&model)?;
        Ok(Self { server, model })
    }

    /// Returns a random load of single pages for `time`.
    pub(crate) fn load(&self, work: Workload, depth: u16, time: Duration) -> Load {
        random(&self.server.target(), work, depth, time)
    }

    /// Runs a load and returns its requests per second.
    pub(crate) fn rate(&self, load: &Load) -> Result<f64, Box<dyn Error>> {
        Ok(load.run(&self.model)?.rate())
    }

    /// Returns the expected content of the disk.
    pub(crate) fn model(&self) -> &DiskModel<'a> {
        &self.model
    }

    /// Reads the whole disk and compares every byte.
    pub(crate) fn verify(&self) -> Result<(), Box<dyn Error>> {
        Load::whole_disk(&self.server.target(), Workload::ReadAll).run(&self.model)?;
        Ok(())
    }
}

fn random(target: &Target, work: Workload, depth: u16, time: Duration) -> Load {
    Load { depth, check: Check::Length, time, ..Load::whole_disk(target, work) }
}

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerKind {
    /// memzip, lz4.
    Lz4,
    /// memzip, zstd level 3.
    Zstd,
    /// nbdkit, uncompressed.
    Sparse,
    /// nbdkit, zstd level 3 in blocks of 32 KiB.
    NbdkitZstd,
    /// qemu-nbd, uncompressed.
    Qemu,
}

/// A running server and the depth it is tuned for; `None` for all depths.
struct Entry<'a> {
    kind: PeerKind,
    depth: Option<u16>,
    name: String,
    measured: MeasuredServer<'a>,
}

/// All servers, with filled disks.
pub(crate) struct Peers<'a> {
    entries: Vec<Entry<'a>>,
    /// The trials of nbdkit, and the servers that are missing.
    pub(crate) remarks: Vec<String>,
}

impl<'a> Peers<'a> {
    /// Finds nbdkit's best number of threads for each depth, then starts all servers.
    pub(crate) fn start(context: &'a Context, depths: &[u16]) -> Result<Self, Box<dyn Error>> {
        let (pages, size) = (&context.mixed, (context.mixed.len() * PAGE_SIZE) as u64);
        let mut peers = Self { entries: Vec::new(), remarks: Vec::new() };
        report_progress("NBD: filling the servers");
        peers.add(
            PeerKind::Lz4,
            None,
            "memzip lz4".into(),
            MeasuredServer::new(pages, Server::memzip(context, "lz4", size)?)?,
        );
        peers.add(
            PeerKind::Zstd,
            None,
            "memzip zstd:3".into(),
            MeasuredServer::new(pages, Server::memzip(context, "zstd:3", size)?)?,
        );
        match need_nbdkit() {
            Ok(()) => {
                for (kind, allocator) in
                    [(PeerKind::Sparse, "sparse"), (PeerKind::NbdkitZstd, "zstd")]
                {
                    peers.add_nbdkit(context, kind, allocator, depths)?;
                }
            }
            Err(why) => peers.remarks.push(why),
        }
        // A missing program is a remark, and its rows are skipped.
        match need("qemu-nbd", "qemu-utils") {
            Ok(()) => peers.add(
                PeerKind::Qemu,
                None,
                "qemu-nbd, raw file in memory".into(),
                MeasuredServer::new(pages, Server::qemu_nbd(size)?)?,
            ),
            Err(why) => peers.remarks.push(why),
        }
        Ok(peers)
    }

    fn add(
        &mut self,
        kind: PeerKind,
        depth: Option<u16>,
        name: String,
        measured: MeasuredServer<'a>,
    ) {
        self.entries.push(Entry { kind, depth, name, measured });
    }

    /// Starts one nbdkit for each depth, with the best number of threads for it.
    fn add_nbdkit(
        &mut self,
        context: &'a Context,
        kind: PeerKind,
        allocator: &str,
        depths: &[u16],
    ) -> Result<(), Box<dyn Error>> {
        let size = (context.mixed.len() * PAGE_SIZE) as u64;
        let scores = probe(context, allocator, depths)?;
        for (&depth, scores) in depths.iter().zip(scores) {
            let (best, _) = scores
                .iter()
                .max_by(|a, b| a.1.total_cmp(&b.1))
                .ok_or("no number of threads was tried")?;
            let all: Vec<String> = scores
                .iter()
                .map(|(threads, rate)| format!("-t{} {:.1} k/s", threads.0, rate / 1e3))
                .collect();
            self.remarks.push(format!(
                "nbdkit {allocator}, depth {depth}: {} (mean of reads and writes)",
                all.join(", ")
            ));
            let server = Server::nbdkit(allocator, *best, size)?;
            let name = format!("nbdkit {allocator} -t{}", best.0);
            self.add(kind, Some(depth), name, MeasuredServer::new(&context.mixed, server)?);
        }
        Ok(())
    }

    /// Returns the number of servers.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the index of the server of this kind for this depth.
    pub(crate) fn find(&self, kind: PeerKind, depth: u16) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| entry.kind == kind && entry.depth.is_none_or(|best| best == depth))
    }

    /// Returns whether the server takes part at this depth.
    pub(crate) fn takes_part(&self, number: usize, depth: u16) -> bool {
        self.entries[number].depth.is_none_or(|best| best == depth)
    }

    /// Returns the name of a server.
    pub(crate) fn name(&self, number: usize) -> &str {
        &self.entries[number].name
    }

    /// Returns a server.
    pub(crate) fn measured(&self, number: usize) -> &MeasuredServer<'a> {
        &self.entries[number].measured
    }
}

/// Requests per second for each number of threads.
type Scores = Vec<(Threads, f64)>;

/// Returns, for each depth and number of threads, the geometric mean of the rates of reads and
/// writes
/// on a small disk.
fn probe(
    context: &Context,
    allocator: &str,
    depths: &[u16],
) -> Result<Vec<Scores>, Box<dyn Error>> {
    report_progress(&format!("NBD: the best number of threads of nbdkit {allocator}"));
    let pages = &context.mixed[..PROBE_PAGES.min(context.mixed.len())];
    let mut scores = vec![Vec::new(); depths.len()];
    for threads in THREADS {
        let server = Server::nbdkit(allocator, threads, (pages.len() * PAGE_SIZE) as u64)?;
        let measured = MeasuredServer::new(pages, server)?;
        for (&depth, scores) in depths.iter().zip(&mut scores) {
            let rate = |work| measured.rate(&measured.load(work, depth, PROBE_TIME));
            scores.push((
                threads,
                (rate(Workload::RandomReads)? * rate(Workload::RandomWrites)?).sqrt(),
            ));
        }
    }
    Ok(scores)
}
