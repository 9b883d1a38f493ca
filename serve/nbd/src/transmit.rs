//! The transmission phase: receives requests, executes them and replies, in order.
//!
//! Run to completion: the thread that receives a request also decodes its pages and replies.
//! Passing it to another thread would cost more than a page read.

mod change;
mod read;
mod reply;
mod status;
mod write;

use std::io::Write;

use block::{BlockDevice, StatusExtent};

use crate::channel::{Channel, Inbound};
use crate::connection_error::ConnectionError;
use crate::export::{Export, Negotiated};
use crate::reply_buffers::ReplyBufferPool;
use crate::stats::{Counters, LocalCounters};
use crate::wire::reply::ReplyTo;
use crate::wire::request::{Command, Durability, Header, RequestLimits, cmd};
use crate::wire::request_error::RequestError;

/// Longest piece of a long read or write. Pieces end at multiples of this if possible. Units:
/// bytes.
const PIECE: u64 = 128 << 10;
/// Pieces of a read or write end at multiples of this, so that no page is split. Units: bytes.
const PAGE: u64 = 4096;
/// Most extents that a read fetches from the device at a time.
const MAX_READ_EXTENTS: usize = 64;

/// The result of a step of a request. The outer error ends the connection; the inner error
/// becomes the reply.
type RequestResult = Result<Result<(), RequestError>, ConnectionError>;

/// Whether the connection continues after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Continue,
    Stop,
}

/// Executes requests until the client disconnects.
///
/// # Errors
/// The [`ConnectionError`] that ends the connection.
pub(crate) fn transmit<R: Inbound, W: Write>(
    channel: &mut Channel<R, W>,
    export: &Export,
    negotiated: Negotiated,
    counters: &Counters,
) -> Result<(), ConnectionError> {
    let mut transmission = Transmission {
        channel,
        device: &*export.device,
        limits: export.request_limits(negotiated),
        reply_buffers: &counters.reply_buffers,
        local_counters: LocalCounters::default(),
        extents: Vec::with_capacity(MAX_READ_EXTENTS),
    };
    let result = transmission.serve(counters);
    counters.merge(&mut transmission.local_counters);
    result
}

/// A connection in its transmission phase.
struct Transmission<'a, R, W> {
    channel: &'a mut Channel<R, W>,
    device: &'a dyn BlockDevice,
    limits: RequestLimits,
    reply_buffers: &'a ReplyBufferPool,
    local_counters: LocalCounters,
    extents: Vec<StatusExtent>,
}

impl<R: Inbound, W: Write> Transmission<'_, R, W> {
    fn serve(&mut self, counters: &Counters) -> Result<(), ConnectionError> {
        let headers = self.limits.headers;
        loop {
            // Publish the counts before waiting for the next request.
            if self.channel.received().len() < headers.request_len() {
                counters.merge(&mut self.local_counters);
            }
            match self.channel.await_message(headers.request_len()) {
                Err(ConnectionError::Closed) => return Ok(()),
                result => result?,
            }
            let header = Header::parse(self.channel.received(), headers)
                .map_err(|_| ConnectionError::ProtocolViolation { what: "wrong request magic" })?;
            if header.exceeds_payload_limit(headers) {
                return Err(ConnectionError::ProtocolViolation {
                    what: "payload of more than 32 MiB",
                });
            }
            self.local_counters.request(header.kind);
            if self.execute(&header)? == Flow::Stop {
                return self.channel.flush();
            }
        }
    }

    /// Executes and answers the request whose header is first in the channel.
    fn execute(&mut self, header: &Header) -> Result<Flow, ConnectionError> {
        let headers = self.limits.headers;
        let to = ReplyTo { headers, cookie: header.cookie, offset: header.offset };
        let done = match self.command(header) {
            Ok(Command::Write { span, durability }) => self.write(span, durability)?,
            Ok(Command::Read { span, reply_kind }) => {
                self.channel.consume(headers.request_len());
                self.read(to, span, reply_kind)?;
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
            // Skip the payload, so that the next request is found.
            Err(failure) => {
                self.channel.consume(headers.request_len());
                self.channel.skip(header.payload(headers))?;
                Err(failure)
            }
        };
        self.answer(to, done)?;
        Ok(Flow::Continue)
    }

    /// Parses the command. During a shutdown, refuses requests that arrived after it began.
    fn command(&self, header: &Header) -> Result<Command, RequestError> {
        if header.kind != cmd::DISC && self.channel.is_after_shutdown() {
            return Err(RequestError::ShuttingDown);
        }
        header.command(&self.limits)
    }

    fn apply_fua(&self, durability: Durability) -> Result<(), RequestError> {
        match durability {
            Durability::Done => Ok(()),
            Durability::Durable => Ok(self.device.flush()?),
        }
    }
}

/// Returns the end of the piece that begins at `offset`. Units: bytes.
fn piece_end(offset: u64, end: u64) -> u64 {
    piece_end_of(PIECE, PAGE, offset, end)
}

/// Returns the end of a piece of at most `max` bytes, at a multiple of `step` if possible. Units:
/// bytes.
fn piece_end_of(max: u64, step: u64, offset: u64, end: u64) -> u64 {
    match offset.checked_add(max) {
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
