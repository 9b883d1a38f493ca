//! Requests that change the device, in pieces.
//!
//! A write is stored piece by piece as its payload arrives, which bounds the memory of a
//! connection. The range of other changes can be as long as the device: between two pieces the
//! server checks for a shutdown and for a client that is gone.

use std::io::Write;

use block::{BlockError, Bytes, Span, ZeroMode, ZeroSpeed};

use super::{Failure, PAGE, PIECE, Transmission, pieces};
use crate::channel::{Cancellation, Inbound};
use crate::error::ConnectionError;
use crate::wire::request_error::RequestError;

/// Longest piece of a change without a payload. Discarding that many bytes of compressed pages
/// took 65 ms on a busy machine. Units: bytes.
const CHANGE_PIECE: u64 = 128 << 20;

impl<R: Inbound, W: Write> Transmission<'_, R, W> {
    /// Receives the payload of a write and stores it directly from the read buffer.
    #[inline]
    pub(super) fn write(&mut self, span: Span) -> Result<(), Failure> {
        for piece in pieces(span, PIECE, PAGE) {
            let len = piece.len() as usize;
            let stored = self.device.write(piece, self.channel.fill(len)?);
            self.channel.read_buffer.consume(len);
            if let Err(error) = stored {
                // Skip the rest, so that the next request is found.
                self.channel.skip(span.end() - piece.end())?;
                return Err(error.into());
            }
        }
        self.local_counters.bytes_written += span.len();
        Ok(())
    }

    pub(super) fn write_zeroes(
        &mut self,
        span: Span,
        mode: ZeroMode,
        speed: ZeroSpeed,
    ) -> Result<(), Failure> {
        let device = self.device;
        let zero = |piece| device.write_zeroes(piece, mode, speed);
        if speed == ZeroSpeed::FastOnly && span.len() > CHANGE_PIECE {
            // `FAST_ZERO` must fail before any change. After the first piece, only the partial
            // pages at both ends can fail: zero those first. If that succeeds, they were already
            // zeros and nothing has changed.
            let (first, last) = (span.offset().next_multiple_of(PAGE), span.end() / PAGE * PAGE);
            for (from, to) in [(span.offset(), first), (last, span.end())] {
                zero(Span::new(from, to - from, Bytes(to)).map_err(BlockError::from)?)?;
            }
        }
        self.in_pieces(span, zero)
    }

    /// Executes `change` piece by piece, until the range is done, a piece fails or the connection
    /// must end.
    pub(super) fn in_pieces(
        &mut self,
        span: Span,
        change: impl Fn(Span) -> Result<(), BlockError>,
    ) -> Result<(), Failure> {
        // Requests of one piece must end at a shutdown, too: a client may send many of them.
        if self.channel.reader.is_closing() {
            return Err(RequestError::ShuttingDown.into());
        }
        for piece in pieces(span, CHANGE_PIECE, CHANGE_PIECE) {
            change(piece)?;
            if piece.end() < span.end() {
                match self.channel.reader.cancellation().map_err(ConnectionError::from)? {
                    None => {}
                    Some(Cancellation::Closing) => return Err(RequestError::ShuttingDown.into()),
                    Some(Cancellation::Disconnected) => {
                        return Err(ConnectionError::UnexpectedEof.into());
                    }
                }
            }
        }
        Ok(())
    }
}
