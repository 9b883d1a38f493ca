//! One connection under load: sends requests and checks replies.

use std::io::{self, IoSlice, Read, Write};
use std::time::Instant;

use super::client::{Connection, Stream};
use super::disk_model::DiskModel;
use super::error::NbdError;
use super::latency::Latency;
use super::plan::{Plan, PlannedRequest};
use super::wire::{self, Command};
use crate::PAGE_SIZE;

/// Least size of the receive buffer. Units: bytes.
const READ_BUFFER: usize = 256 << 10;

/// The check of the bytes that a read returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Only their number is checked.
    Length,
    /// They are compared with the model. No other load may write at the same time.
    Content,
}

/// A request without a reply.
#[derive(Clone, Copy)]
struct InFlight {
    step: PlannedRequest,
    sent: Instant,
}

/// The state of one connection under load.
pub(crate) struct Worker<'a> {
    connection: Connection,
    model: &'a DiskModel<'a>,
    plan: Plan,
    check: Check,
    in_flight: Vec<Option<InFlight>>,
    free: Vec<u16>,
    fresh: Vec<(u16, [u8; wire::REQUEST_LEN])>,
    replies: Vec<u8>,
    filled: usize,
    latency: Latency,
    answered: u64,
}

impl<'a> Worker<'a> {
    /// Creates the state of a connection that keeps `depth` requests in flight.
    pub(crate) fn new(
        connection: Connection,
        model: &'a DiskModel<'a>,
        plan: Plan,
        check: Check,
        depth: u16,
    ) -> Self {
        let reply = wire::REPLY_LEN + plan.largest_read() * PAGE_SIZE;
        Self {
            connection,
            model,
            plan,
            check,
            in_flight: vec![None; usize::from(depth)],
            free: (0..depth).collect(),
            fresh: Vec::new(),
            replies: vec![0; READ_BUFFER.max(2 * reply)],
            filled: 0,
            latency: Latency::default(),
            answered: 0,
        }
    }

    /// Sends and receives until the plan is done and all requests are answered. Returns the
    /// latencies and the number of requests.
    pub(crate) fn run(mut self) -> Result<(Latency, u64), NbdError> {
        let mut now = Instant::now();
        loop {
            self.prepare(now);
            self.send()?;
            if self.free.len() == self.in_flight.len() {
                return Ok((self.latency, self.answered));
            }
            self.receive()?;
            now = Instant::now();
            self.process_replies(now)?;
        }
    }

    /// Turns free tags into requests.
    fn prepare(&mut self, now: Instant) {
        if self.plan.is_over(now) {
            return;
        }
        while let Some(tag) = self.free.pop() {
            let Some(step) = self.next_without_conflict() else {
                self.free.push(tag);
                return;
            };
            let (offset, len) =
                (u64::from(step.page) * PAGE_SIZE as u64, step.count * PAGE_SIZE as u32);
            self.fresh.push((tag, wire::request(step.command, u64::from(tag), offset, len)));
            self.in_flight[usize::from(tag)] = Some(InFlight { step, sent: now });
        }
    }

    /// Returns the plan's next request. Skips random writes to a page with another request in
    /// flight: the order of two writes, and with it the page's content, would be unknown.
    fn next_without_conflict(&mut self) -> Option<PlannedRequest> {
        loop {
            let step = self.plan.next_request()?;
            let busy = |flight: &Option<InFlight>| {
                flight.is_some_and(|flight| flight.step.page == step.page)
            };
            if step.command != Command::Write || !self.in_flight.iter().any(busy) {
                return Some(step);
            }
        }
    }

    /// Sends all new requests with their pages, in as few calls as the socket takes.
    fn send(&mut self) -> Result<(), NbdError> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        let pages = self.model.pages();
        let mut slices = Vec::with_capacity(self.fresh.len() * 2);
        for (tag, header) in &self.fresh {
            slices.push(IoSlice::new(header));
            if let Some(InFlight { step, .. }) = self.in_flight[usize::from(*tag)]
                && step.command == Command::Write
            {
                let source = |index| (step.source as usize + index) % pages.len();
                slices.extend(
                    (0..step.count as usize).map(|index| IoSlice::new(&pages[source(index)][..])),
                );
            }
        }
        write_all(&mut self.connection.stream, &mut slices)?;
        self.fresh.clear();
        Ok(())
    }

    /// Receives at least one byte of replies.
    fn receive(&mut self) -> Result<(), NbdError> {
        match self.connection.stream.read(&mut self.replies[self.filled..])? {
            0 => Err(NbdError::Protocol {
                what: "the server closed the connection with requests in flight",
            }),
            more => {
                self.filled += more;
                Ok(())
            }
        }
    }

    /// Processes every whole reply in the buffer and moves the rest to its front.
    fn process_replies(&mut self, now: Instant) -> Result<(), NbdError> {
        let mut at = 0;
        while let Some(len) = self.reply(at, now)? {
            at += len;
        }
        self.replies.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }

    /// Processes the reply at `at` of the buffer and returns its length; returns `None` when the
    /// reply is not complete.
    fn reply(&mut self, at: usize, now: Instant) -> Result<Option<usize>, NbdError> {
        let received = &self.replies[at..self.filled];
        let Some((head, data)) = received.split_first_chunk() else { return Ok(None) };
        let (code, cookie) =
            wire::simple_reply(head).ok_or(NbdError::Protocol { what: "not a simple reply" })?;
        let unknown = NbdError::Protocol { what: "a reply without a request" };
        let tag = u16::try_from(cookie).ok().filter(|&tag| usize::from(tag) < self.in_flight.len());
        let Some(tag) = tag else { return Err(unknown) };
        let Some(flight) = self.in_flight[usize::from(tag)] else { return Err(unknown) };
        let step = flight.step;
        if code != 0 {
            return Err(NbdError::Failed { page: step.page, code });
        }
        let len = if step.command == Command::Read { step.count as usize * PAGE_SIZE } else { 0 };
        let Some(data) = data.get(..len) else { return Ok(None) };
        // The reply is complete: check its data and free its tag.
        self.record_completion(step, data)?;
        self.latency.record(now - flight.sent);
        self.answered += 1;
        self.in_flight[usize::from(tag)] = None;
        self.free.push(tag);
        Ok(Some(wire::REPLY_LEN + len))
    }

    /// Checks what was read, and records in the model what was written or discarded.
    fn record_completion(&self, step: PlannedRequest, data: &[u8]) -> Result<(), NbdError> {
        let corpus = self.model.pages().len();
        for index in 0..step.count {
            let page = step.page + index;
            match step.command {
                Command::Write => {
                    self.model.set(page, ((step.source + index) as usize % corpus) as u32)
                }
                Command::Trim => self.model.set_zeros(page),
                Command::Read if self.check == Check::Content => {
                    let from = index as usize * PAGE_SIZE;
                    if !self.model.matches(page, &data[from..from + PAGE_SIZE]) {
                        return Err(NbdError::Mismatch { page });
                    }
                }
                Command::Read | Command::Disconnect => {}
            }
        }
        Ok(())
    }
}

/// Most slices the kernel takes in one call (`IOV_MAX`).
const MAX_IOVECS: usize = 1024;

fn write_all(stream: &mut Stream, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        let batch = slices.len().min(MAX_IOVECS);
        match stream.write_vectored(&slices[..batch]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
