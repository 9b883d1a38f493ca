//! Many connections at work together.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::client::{Connection, Target};
use super::connection::Worker;
use super::disk_model::DiskModel;
use super::error::NbdError;
use super::latency::Latency;
use super::plan::{Plan, Workload};

/// What is done with the bytes that come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// They are counted.
    Length,
    /// They are compared with what was written. Only where no other load writes at the same time.
    Content,
}

/// A load to put on a server.
#[derive(Clone, Debug)]
pub struct Load {
    /// Whom.
    pub target: Target,
    /// Connections, each with a thread of its own.
    pub connections: u32,
    /// Requests in flight on each connection.
    pub depth: u16,
    /// What to do.
    pub work: Workload,
    /// What to do with bytes read.
    pub check: Check,
    /// How long the random works last; the others end by themselves.
    pub time: Duration,
    /// The same seed gives the same requests.
    pub seed: u64,
}

/// What a load measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// Requests sent and answered without an error.
    pub requests: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// From sending to reception, every request.
    pub latency: Latency,
}

impl Report {
    /// Units: requests a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

impl Load {
    /// One connection, depth 16, checking content: for filling, checking and discarding.
    #[must_use]
    pub fn whole_disk(target: &Target, work: Workload) -> Self {
        let (check, time) = (Check::Content, Duration::MAX);
        Self { target: target.clone(), connections: 1, depth: 16, work, check, time, seed: 1 }
    }

    /// Runs it and accounts for what it wrote in `model`.
    ///
    /// # Errors
    /// The first [`NbdError`] any connection met: a failed request, a wrong byte or a broken connection ends a measurement.
    ///
    /// # Panics
    /// When the disk or the corpus is empty: there is nothing to measure.
    pub fn run(&self, model: &DiskModel<'_>) -> Result<Report, NbdError> {
        assert!(!model.is_empty() && !model.pages().is_empty(), "a load needs a disk and pages");
        let connections: Vec<Connection> = (0..self.connections)
            .map(|_| Connection::open(&self.target))
            .collect::<Result<_, _>>()?;
        let gate = Barrier::new(connections.len());
        let start = Instant::now();
        let outcomes = thread::scope(|scope| {
            let run = |part: usize, connection| {
                let plan = self.plan(part as u32, model);
                let worker = Worker::new(connection, model, plan, self.check, self.depth.max(1));
                let gate = &gate;
                scope.spawn(move || {
                    gate.wait();
                    worker.run()
                })
            };
            let threads: Vec<_> =
                connections.into_iter().enumerate().map(|(part, c)| run(part, c)).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread
                    .join()
                    .unwrap_or(Err(NbdError::Protocol { what: "a client thread panicked" }))
            };
            threads.into_iter().map(join).collect::<Vec<_>>()
        });
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
