//! The transmission phase: receives requests, executes them and replies, in order.
//!
//! Run to completion: the thread that receives a request also decodes its pages and replies.
//! Passing it to another thread would cost more than a page read.

mod change;
mod reply;
mod read;
mod status;

use std::io::Write;

use block::{BlockDevice, BlockError, Bytes, Span, StatusExtent};

use crate::channel::{Channel, Inbound};
use crate::error::ConnectionError;
use crate::reply_buffers::ReplyBufferPool;
use crate::stats::{Counters, LocalCounters};
use crate::wire::reply::ReplyTo;
use crate::wire::request::{Command, Durability, Header, RequestLimits, cmd};
use crate::wire::request_error::RequestError;

/// Longest piece of a long read or write. Units: bytes.
const PIECE: u64 = 128 << 10;
/// Pieces of a read or write end at multiples of this, so that no page is split. Units: bytes.
const PAGE: u64 = 4096;
/// Most extents that a read fetches from the device at a time.
const MAX_READ_EXTENTS: usize = 64;

/// The reason why a request has not succeeded.
enum Failure {
    /// The client gets an error reply.
    Request(RequestError),
    /// The connection ends.
    Connection(ConnectionError),
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

impl From<BlockError> for Failure {
    fn from(error: BlockError) -> Self {
        Self::Request(error.into())
    }
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}

/// Executes requests until the client disconnects.
///
/// # Errors
/// The [`ConnectionError`] that ends the connection.
pub(crate) fn transmit<R: Inbound, W: Write>(
    channel: &mut Channel<R, W>,
    device: &dyn BlockDevice,
    limits: RequestLimits,
    counters: &Counters,
) -> Result<(), ConnectionError> {
    let mut transmission = Transmission {
        channel,
        device,
        limits,
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
        let head_len = headers.request_len();
        loop {
            // Publish the counts before waiting for the next request.
            if self.channel.read_buffer.bytes().len() < head_len {
                counters.merge(&mut self.local_counters);
            }
            let Some(head) = self.channel.await_message(head_len)? else { return Ok(()) };
            let Some(header) = Header::parse(head, headers) else {
                return Err(ConnectionError::ProtocolViolation { what: "wrong request magic" });
            };
            if header.exceeds_payload_limit(headers) {
                return Err(ConnectionError::ProtocolViolation {
                    what: "payload of more than 32 MiB",
                });
            }
            self.local_counters.request(header.kind);
            let command = self.command(&header);
            self.channel.read_buffer.consume(head_len);
            let to = ReplyTo { headers, cookie: header.cookie, offset: header.offset };
            let done = match command {
                Ok(Command::Disconnect) => return self.channel.flush(),
                Ok(command) => self.execute(to, command),
                Err(error) => {
                    // Skip the payload, so that the next request is found.
                    self.channel.skip(header.payload(headers))?;
                    Err(error.into())
                }
            };
            match done {
                Ok(()) => {}
                Err(Failure::Request(error)) => self.fail(to, &error, None)?,
                Err(Failure::Connection(error)) => return Err(error),
            }
        }
    }

    /// Parses the command. During a shutdown, refuses requests that arrived after it began.
    fn command(&self, header: &Header) -> Result<Command, RequestError> {
        if header.kind != cmd::DISC && self.channel.is_after_shutdown() {
            return Err(RequestError::ShuttingDown);
        }
        header.command(&self.limits)
    }

    /// Executes a command and answers it if it succeeds.
    fn execute(&mut self, to: ReplyTo, command: Command) -> Result<(), Failure> {
        let durability = match command {
            Command::Read { span, reply_kind } => return self.read(to, span, reply_kind),
            Command::BlockStatus { span, extents } => {
                return Ok(self.block_status(to, span, extents)?);
            }
            Command::Write { span, durability } => {
                self.write(span)?;
                durability
            }
            Command::WriteZeroes { span, mode, speed, durability } => {
                self.write_zeroes(span, mode, speed)?;
                durability
            }
            Command::Trim { span, durability } => {
                let device = self.device;
                self.in_pieces(span, |piece| device.discard(piece))?;
                durability
            }
            Command::Flush => Durability::Durable,
            // All content is in memory, and the range is already checked.
            Command::Cache | Command::Disconnect => Durability::Done,
        };
        if durability == Durability::Durable {
            self.device.flush()?;
        }
        Ok(self.succeed(to)?)
    }
}

/// Returns the pieces of a span: at least one, each of at most `max` bytes. They end at multiples
/// of `step` if possible. Units: bytes.
fn pieces(span: Span, max: u64, step: u64) -> impl Iterator<Item = Span> {
    let mut next = Some(span.offset());
    std::iter::from_fn(move || {
        let start = next?;
        let end = match start.checked_add(max) {
            Some(far) if far < span.end() => far & !(step - 1),
            _ => span.end(),
        };
        next = (end < span.end()).then_some(end);
        Span::new(start, end - start, Bytes(span.end())).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_at_pages_and_cover_everything() {
        for (start, end) in
            [(0, 1), (1, 40 << 20), (4095, 4097), (PIECE, 3 * PIECE + 5), (u64::MAX - 9, u64::MAX)]
        {
            let span = Span::new(start, end - start, Bytes(end)).expect("a valid range");
            let mut offset = start;
            for piece in pieces(span, PIECE, PAGE) {
                assert_eq!(piece.offset(), offset);
                assert!(!piece.is_empty() && piece.len() <= PIECE);
                offset = piece.end();
                assert!(offset == end || offset.is_multiple_of(PAGE));
            }
            assert_eq!(offset, end);
        }
    }

    #[test]
    fn an_empty_span_is_one_piece() {
        let span = Span::new(7, 0, Bytes(7)).expect("a valid range");
        assert!(pieces(span, PIECE, PAGE).eq([span]));
    }
}
