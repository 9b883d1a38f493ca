//! The transmission phase: take a request off the channel, execute it, answer it, in the order they came.
//!
//! Run to completion: the thread that received a request does its codec work and answers it. A hand-over to another thread
//! costs more than a page read.

mod answer;
mod change;
mod read;
mod status;
mod write;

use crate::channel::{Channel, Inbound};
use crate::export::{Export, Terms};
use crate::hangup::Hangup;
use crate::reply_memory::ReplyMemory;
use crate::stats::{Counters, Tally};
use crate::wire::failure::Failure;
use crate::wire::reply::ReplyTo;
use crate::wire::request::{Command, Durability, Header, Rules, cmd};
use block::{BlockDevice, Run};
use std::io::Write;

/// Long reads and writes are done in pieces that end at multiples of this where they can. Units: bytes.
const PIECE: u64 = 128 << 10;
/// Pieces end at multiples of this, so that no page is cut twice. Units: bytes.
const PAGE: u64 = 4096;
/// Runs looked at together.
const RUNS: usize = 64;

/// What became of a step of a request. The outer error ends the conversation, the inner one is answered.
type Attempt = Result<Result<(), Failure>, Hangup>;

/// Whether the conversation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Continue,
    Stop,
}

/// Executes requests until the client leaves.
///
/// # Errors
/// [`Hangup`].
pub(crate) fn transmit<R: Inbound, W: Write>(
    channel: &mut Channel<R, W>,
    export: &Export,
    terms: Terms,
    counters: &Counters,
) -> Result<(), Hangup> {
    let mut line = Line {
        channel,
        device: &*export.device,
        rules: export.rules(terms),
        reply_memory: &counters.reply_memory,
        tally: Tally::default(),
        runs: Vec::with_capacity(RUNS),
    };
    let result = line.serve(counters);
    counters.absorb(&mut line.tally);
    result
}

/// A connection in its transmission phase.
struct Line<'a, R, W> {
    channel: &'a mut Channel<R, W>,
    device: &'a dyn BlockDevice,
    rules: Rules,
    reply_memory: &'a ReplyMemory,
    tally: Tally,
    runs: Vec<Run>,
}

impl<R: Inbound, W: Write> Line<'_, R, W> {
    fn serve(&mut self, counters: &Counters) -> Result<(), Hangup> {
        let headers = self.rules.headers;
        loop {
            if self.channel.received().len() < headers.request_len() {
                counters.absorb(&mut self.tally);
            }
            match self.channel.await_message(headers.request_len()) {
                Err(Hangup::Closed) => return Ok(()),
                result => result?,
            }
            let header = Header::parse(self.channel.received(), headers)
                .map_err(|_| Hangup::Garbage { what: "request magic" })?;
            if header.is_endless(headers) {
                return Err(Hangup::Garbage { what: "payload longer than allowed" });
            }
            self.tally.request(header.kind);
            if self.execute(&header)? == Flow::Stop {
                return self.channel.flush();
            }
        }
    }

    /// Executes and answers the request whose header stands first in the channel.
    fn execute(&mut self, header: &Header) -> Result<Flow, Hangup> {
        let headers = self.rules.headers;
        let to = ReplyTo { headers, cookie: header.cookie, offset: header.offset };
        let done = match self.command(header) {
            Ok(Command::Write { span, durability }) => self.write(span, durability)?,
            Ok(Command::Read { span, shape }) => {
                self.channel.consume(headers.request_len());
                self.read(to, span, shape)?;
                return Ok(Flow::Continue);
            }
            Ok(Command::BlockStatus { span, extents }) => {
                self.channel.consume(headers.request_len());
                self.block_status(to, span, extents)?;
                return Ok(Flow::Continue);
            }
            Ok(Command::Disconnect) => return Ok(Flow::Stop),
            Ok(command) => {
                self.channel.consume(headers.request_len());
                self.change(command)?
            }
            Err(failure) => {
                self.channel.consume(headers.request_len());
                self.channel.skip(header.payload(headers))?;
                Err(failure)
            }
        };
        self.answer(to, done)?;
        Ok(Flow::Continue)
    }

    /// What the request means. During a shutdown only those that had come before are done.
    fn command(&self, header: &Header) -> Result<Command, Failure> {
        if header.kind != cmd::DISC && self.channel.is_after_shutdown() {
            return Err(Failure::ShuttingDown);
        }
        header.command(&self.rules)
    }

    fn settle(&self, durability: Durability) -> Result<(), Failure> {
        match durability {
            Durability::Done => Ok(()),
            Durability::Durable => Ok(self.device.flush()?),
        }
    }
}

/// Where the piece that begins at `offset` ends.
fn piece_end(offset: u64, end: u64) -> u64 {
    piece_end_of(PIECE, PAGE, offset, end)
}

/// Returns where a piece of at most `most` bytes ends: at a multiple of `step` where it can.
fn piece_end_of(most: u64, step: u64, offset: u64, end: u64) -> u64 {
    match offset.checked_add(most) {
        Some(far) if far < end => far & !(step - 1),
        _ => end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_at_pages_and_cover_everything() {
        for (start, end) in
            [(0, 1), (1, 40 << 20), (4095, 4097), (PIECE, 3 * PIECE + 5), (u64::MAX - 9, u64::MAX)]
        {
            let mut offset = start;
            while offset < end {
                let next = piece_end(offset, end);
                assert!(next > offset && next - offset <= PIECE);
                assert!(next == end || next.is_multiple_of(PAGE));
                offset = next;
            }
        }
    }
}
