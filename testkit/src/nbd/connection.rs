//! One connection under load: sends requests and checks replies.

use std::time::Instant;

use nbd_client::{Command, Connection, Request};

use super::disk_model::DiskModel;
use super::error::LoadError;
use super::latency::Latency;
use super::plan::{Plan, PlannedRequest};
use crate::PAGE_SIZE;

/// The check of the bytes that a read returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Only their number is checked.
    Length,
    /// They are compared with the model. No other load may write at the same time.
    Content,
}

/// What is kept with a request until its reply.
#[derive(Clone, Copy)]
pub(crate) struct InFlight {
    step: PlannedRequest,
    sent: Instant,
}

/// The state of one connection under load.
pub(crate) struct Worker<'a> {
    pub connection: Connection<InFlight>,
    pub model: &'a DiskModel<'a>,
    pub plan: Plan,
    pub check: Check,
    /// Requests to keep in flight.
    pub depth: usize,
    pub latency: Latency,
    pub answered: u64,
}

impl Worker<'_> {
    /// Sends and receives until the plan is done and all requests are answered. Returns the
    /// latencies and the number of requests.
    pub(crate) fn run(mut self) -> Result<(Latency, u64), LoadError> {
        let mut now = Instant::now();
        loop {
            self.prepare(now);
            self.send()?;
            if self.connection.depth() == 0 {
                return Ok((self.latency, self.answered));
            }
            self.connection.receive()?;
            now = Instant::now();
            self.process_replies(now)?;
        }
    }

    /// Queues requests up to the depth.
    fn prepare(&mut self, now: Instant) {
        if self.plan.is_over(now) {
            return;
        }
        while self.connection.depth() < self.depth {
            let Some(step) = self.next_without_conflict() else { return };
            let PlannedRequest { command, page, count, .. } = step;
            let (offset, len) = (u64::from(page) * PAGE_SIZE as u64, count * PAGE_SIZE as u32);
            self.connection.queue(Request { command, offset, len }, InFlight { step, sent: now });
        }
    }

    /// Returns the plan's next request. Skips random writes to a page with another request in
    /// flight: the order of two writes, and with it the page's content, would be unknown.
    fn next_without_conflict(&mut self) -> Option<PlannedRequest> {
        loop {
            let step = self.plan.next_request()?;
            let is_busy =
                |page| self.connection.in_flight().any(|(_, other)| other.step.page == page);
            if step.command != Command::Write || !is_busy(step.page) {
                return Some(step);
            }
        }
    }

    /// Sends all new requests with their pages.
    fn send(&mut self) -> Result<(), LoadError> {
        let pages = self.model.pages();
        Ok(self.connection.send(|_, &InFlight { step, .. }| {
            (0..step.count).map(move |index| &pages[corpus_page(step, index, pages.len())][..])
        })?)
    }

    /// Checks and counts every whole reply that was received.
    fn process_replies(&mut self, now: Instant) -> Result<(), LoadError> {
        while let Some(reply) = self.connection.next_reply()? {
            let InFlight { step, sent } = reply.tag;
            record_completion(self.model, self.check, step, reply.data)?;
            self.latency.record(now - sent);
            self.answered += 1;
        }
        Ok(())
    }
}

/// Checks what was read, and records in the model what was written or discarded.
fn record_completion(
    model: &DiskModel<'_>,
    check: Check,
    step: PlannedRequest,
    data: &[u8],
) -> Result<(), LoadError> {
    for index in 0..step.count {
        let page = step.page + index;
        match step.command {
            Command::Write => {
                model.set(page, corpus_page(step, index, model.pages().len()) as u32);
            }
            Command::Trim => model.set_zeros(page),
            Command::Read => {
                let from = index as usize * PAGE_SIZE;
                if check == Check::Content && !model.matches(page, &data[from..from + PAGE_SIZE]) {
                    return Err(LoadError::Mismatch { page });
                }
            }
        }
    }
    Ok(())
}

/// Returns the corpus page that a write stores in its page number `index`.
fn corpus_page(step: PlannedRequest, index: u32, corpus: usize) -> usize {
    (step.source + index) as usize % corpus
}
