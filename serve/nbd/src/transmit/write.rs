//! Writes: a short payload is stored directly from the read buffer, a long one piece by piece.
//!
//! Storing piece by piece bounds the memory of a connection. A client that vanishes in the middle
//! of a long write may leave its first pages stored, without a success reply.

use std::io::Write;

use block::Span;

use super::{PIECE, RequestResult, Transmission, piece_end};
use crate::channel::Inbound;
use crate::wire::request::Durability;
use crate::wire::request_error::RequestError;

impl<R: Inbound, W: Write> Transmission<'_, R, W> {
    /// Receives and stores the payload of the write whose header is first in the channel.
    /// Consumes both.
    #[inline]
    pub(super) fn write(&mut self, span: Span, durability: Durability) -> RequestResult {
        let stored =
            if span.len() <= PIECE { self.write_whole(span)? } else { self.write_pieces(span)? };
        if stored.is_ok() {
            self.local_counters.bytes_written += span.len();
        }
        Ok(stored.and_then(|()| self.apply_fua(durability)))
    }

    fn write_whole(&mut self, span: Span) -> RequestResult {
        let head = self.limits.headers.request_len();
        let whole = head + span.len() as usize;
        self.channel.fill(whole)?;
        let stored = self.device.write(span, &self.channel.received()[head..whole]);
        self.channel.consume(whole);
        Ok(stored.map_err(RequestError::from))
    }

    /// Stores a long payload piece by piece. After a failure, skips the rest, so that the next
    /// request is found.
    fn write_pieces(&mut self, span: Span) -> RequestResult {
        self.channel.consume(self.limits.headers.request_len());
        let mut at = span.offset();
        while at < span.end() {
            let end = piece_end(at, span.end());
            let len = (end - at) as usize;
            self.channel.fill(len)?;
            let stored = Span::new(at, end - at, self.limits.size)
                .map_err(RequestError::OutOfRange)
                .and_then(|piece| Ok(self.device.write(piece, &self.channel.received()[..len])?));
            self.channel.consume(len);
            if let Err(failure) = stored {
                self.channel.skip(span.end() - end)?;
                return Ok(Err(failure));
            }
            at = end;
        }
        Ok(Ok(()))
    }
}
