//! Several connections under load at the same time.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::{Connection, Target};

use super::connection::{Check, Worker};
use super::disk_model::DiskModel;
use super::error::LoadError;
use super::latency::Latency;
use super::plan::{Plan, Workload};

/// A load on a server.
#[derive(Clone, Debug)]
pub struct Load {
    /// The server.
    pub target: Target,
    /// Number of connections, each with its own thread.
    pub connections: u32,
    /// Requests in flight on each connection.
    pub depth: u16,
    /// The requests to send.
    pub work: Workload,
    /// The check of the bytes that were read.
    pub check: Check,
    /// Duration of the random workloads; the others end by themselves.
    pub time: Duration,
    /// Seed of the requests: the same seed gives the same requests.
    pub seed: u64,
}

/// The result of a load.
#[derive(Clone, Debug)]
pub struct Report {
    /// Number of requests that were answered without an error.
    pub requests: u64,
    /// Time from the first request to the last reply.
    pub elapsed: Duration,
    /// Time from sending a request to its reply, for every request.
    pub latency: Latency,
}

impl Report {
    /// Returns the requests per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

impl Load {
    /// Creates a load of one connection with depth 16 that checks content, for filling, checking
    /// and discarding a disk.
    #[must_use]
    pub fn whole_disk(target: &Target, work: Workload) -> Self {
        let (check, time) = (Check::Content, Duration::MAX);
        Self { target: target.clone(), connections: 1, depth: 16, work, check, time, seed: 1 }
    }

    /// Runs the load and records in `model` what it wrote.
    ///
    /// # Errors
    /// The first [`LoadError`] of any connection: a failed request, a wrong byte or a broken
    /// connection ends the load.
    ///
    /// # Panics
    /// When the disk or the corpus is empty.
    pub fn run(&self, model: &DiskModel<'_>) -> Result<Report, LoadError> {
        assert!(!model.is_empty() && !model.pages().is_empty(), "a load needs a disk and pages");
        // Connect all before any thread starts, so that connecting is not measured.
        let connections: Vec<_> = (0..self.connections)
            .map(|_| Connection::open(&self.target))
            .collect::<Result<_, _>>()?;
        // Run one thread for each connection; the barrier starts them together.
        let gate = Barrier::new(connections.len());
        let start = Instant::now();
        let outcomes = thread::scope(|scope| {
            let run = |part: usize, connection| {
                let plan = self.plan(part as u32, model);
                let (check, depth) = (self.check, self.depth.max(1).into());
                let (latency, answered) = (Latency::default(), 0);
                let worker = Worker { connection, model, plan, check, depth, latency, answered };
                let gate = &gate;
                scope.spawn(move || {
                    gate.wait();
                    worker.run()
                })
            };
            let threads: Vec<_> =
                connections.into_iter().enumerate().map(|(part, c)| run(part, c)).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect::<Vec<_>>()
        });
        // Add up the results, or return the first error.
        let elapsed = start.elapsed();
        let mut report = Report { requests: 0, elapsed, latency: Latency::default() };
        for outcome in outcomes {
            let (latency, requests) = outcome?;
            report.latency.merge(&latency);
            report.requests += requests;
        }
        Ok(report)
    }

    fn plan(&self, part: u32, model: &DiskModel<'_>) -> Plan {
        let now = Instant::now();
        let end = now.checked_add(self.time).unwrap_or(now + Duration::from_secs(86_400 * 365));
        let corpus = u32::try_from(model.pages().len()).unwrap_or(u32::MAX);
        Plan::new(self.work.clone(), self.seed, model.len(), corpus, part, self.connections, end)
    }
}
