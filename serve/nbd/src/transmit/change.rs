//! Requests without a payload in either direction: zeroes, trims, flushes.
//!
//! A range can be as long as the device, so it is executed in pieces. Between two pieces the
//! server checks for a shutdown and for a client that is gone.

use std::io::Write;

use block::{BlockError, Span, ZeroMode, ZeroSpeed};

use super::{PAGE, RequestResult, Transmission, piece_end_of};
use crate::channel::{Cancellation, Inbound};
use crate::connection_error::ConnectionError;
use crate::wire::request::{Command, Durability};
use crate::wire::request_error::RequestError;

/// Longest piece of a change. Discarding that many bytes of compressed pages took 65 ms on a busy
/// machine. Units: bytes.
const PIECE: u64 = 128 << 20;

impl<R: Inbound, W: Write> Transmission<'_, R, W> {
    /// Executes a command without a payload in either direction.
    pub(super) fn change(&mut self, command: Command) -> RequestResult {
        let (changed, durability) = match command {
            Command::WriteZeroes { span, mode, speed, durability } => {
                (self.write_zeroes(span, mode, speed)?, durability)
            }
            Command::Trim { span, durability } => {
                let device = self.device;
                (self.in_pieces(span, |piece| device.discard(piece))?, durability)
            }
            Command::Flush => (Ok(()), Durability::Durable),
            // All content is in memory, and the range is already checked. The other commands do
            // not get here.
            Command::Cache
            | Command::Disconnect
            | Command::Read { .. }
            | Command::Write { .. }
            | Command::BlockStatus { .. } => (Ok(()), Durability::Done),
        };
        Ok(changed.and_then(|()| self.apply_fua(durability)))
    }

    fn write_zeroes(&mut self, span: Span, mode: ZeroMode, speed: ZeroSpeed) -> RequestResult {
        let device = self.device;
        let zero = |piece| device.write_zeroes(piece, mode, speed);
        if speed == ZeroSpeed::FastOnly && span.len() > PIECE {
            // `FAST_ZERO` must fail before any change. After the first piece, only the partial
            // pages at both ends can fail: zero those first. If that succeeds, they were already
            // zeros and nothing has changed.
            let size = device.size();
            let (first, last) = (span.offset().next_multiple_of(PAGE), span.end() / PAGE * PAGE);
            for (from, to) in [(span.offset(), first), (last, span.end())] {
                if let Err(error) =
                    Span::new(from, to - from, size).map_err(BlockError::from).and_then(zero)
                {
                    return Ok(Err(error.into()));
                }
            }
        }
        self.in_pieces(span, zero)
    }

    /// Executes `change` piece by piece, until the range is done, a piece fails or the connection
    /// must end.
    fn in_pieces(
        &mut self,
        span: Span,
        change: impl Fn(Span) -> Result<(), BlockError>,
    ) -> RequestResult {
        let mut at = span.offset();
        // Requests of one piece must end at a shutdown, too: a client may send many of them.
        if self.channel.is_closing() {
            return Ok(Err(RequestError::ShuttingDown));
        }
        loop {
            let end = piece_end_of(PIECE, PIECE, at, span.end());
            let changed = Span::new(at, end - at, self.limits.size)
                .map_err(BlockError::from)
                .and_then(&change);
            if let Err(error) = changed {
                return Ok(Err(error.into()));
            }
            at = end;
            if at == span.end() {
                return Ok(Ok(()));
            }
            match self.channel.cancellation()? {
                None => {}
                Some(Cancellation::Closing) => return Ok(Err(RequestError::ShuttingDown)),
                Some(Cancellation::Disconnected) => return Err(ConnectionError::UnexpectedEof),
            }
        }
    }
}
