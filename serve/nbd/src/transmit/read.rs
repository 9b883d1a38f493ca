//! Reads: the device decodes directly into the write buffer.
//!
//! A simple reply must not fail after its header is sent. If a buffer is free, the server reads
//! all data before it writes the header. Otherwise the device verifies the span first, and the
//! server then reads it piece by piece; a page that becomes unreadable in between ends the
//! connection. Structured replies need neither, because an error chunk may follow data.

use std::io::Write;

use block::{AllocationState, BlockError, Span, StatusExtent};

use super::{Failure, MAX_READ_EXTENTS, PAGE, PIECE, Transmission, pieces};
use crate::channel::{Inbound, WRITE_BUFFER_LEN};
use crate::error::ConnectionError;
use crate::reply_buffers::REPLY_BUFFER_LEN;
use crate::wire::reply::{self, ChunkKind, ChunkPosition, ReplyTo};
use crate::wire::request::ReadReplyKind;

impl<R: Inbound, W: Write> Transmission<'_, R, W> {
    /// Executes and answers a read.
    #[inline]
    pub(super) fn read(
        &mut self,
        to: ReplyTo,
        span: Span,
        reply_kind: ReadReplyKind,
    ) -> Result<(), Failure> {
        let done = match reply_kind {
            ReadReplyKind::Simple => return self.read_simple(to, span),
            _ if span.is_empty() => return Ok(self.succeed(to)?),
            ReadReplyKind::SingleChunk if span.len() > PIECE => self.read_long_chunk(to, span),
            ReadReplyKind::SingleChunk => self.put_data_chunk(to, span, ChunkPosition::Last),
            ReadReplyKind::Chunks => self.read_chunks(to, span),
        };
        match done {
            Ok(()) => self.end_read(span),
            Err(Failure::Request(error)) => {
                // A damaged page may begin before the span.
                let offset = error.offset().map(|at| at.clamp(span.offset(), span.end() - 1));
                Ok(self.fail(to, &error, offset)?)
            }
            Err(failure) => Err(failure),
        }
    }

    fn end_read(&mut self, span: Span) -> Result<(), Failure> {
        self.local_counters.bytes_read += span.len();
        Ok(self.channel.end_reply()?)
    }

    fn read_simple(&mut self, to: ReplyTo, span: Span) -> Result<(), Failure> {
        let head = reply::simple(to.cookie, None);
        let len = head.len() + span.len() as usize;
        if len <= WRITE_BUFFER_LEN {
            self.put_content(&head, span)?;
            return self.end_read(span);
        }
        // Send the buffered replies before taking a buffer: a client that does not read them
        // would keep the buffer in use.
        self.channel.flush()?;
        let pool = self.reply_buffers;
        if let Some(mut buffer) = (len <= REPLY_BUFFER_LEN).then(|| pool.try_take()).flatten() {
            let reply = &mut buffer.bytes[..len];
            self.device.read(span, &mut reply[head.len()..])?;
            reply[..head.len()].copy_from_slice(&head);
            self.local_counters.bytes_read += span.len();
            return Ok(self.channel.send_reply(reply)?);
        }
        self.device.verify(span)?;
        self.channel.write_buffer.put(&head);
        for piece in pieces(span, PIECE, PAGE) {
            self.put_content(&[], piece).map_err(|failure| match failure {
                Failure::Request(_) => ConnectionError::FailedMidReply.into(),
                failure => failure,
            })?;
        }
        self.end_read(span)
    }

    /// Writes one data chunk that is sent while it is read. Zeros replace unreadable pieces, and
    /// an error chunk with the first unreadable offset follows.
    fn read_long_chunk(&mut self, to: ReplyTo, span: Span) -> Result<(), Failure> {
        let (offset, len) = (span.offset(), span.len() as u32);
        let head = reply::data_head(to, ChunkPosition::NotLast, offset, len);
        self.channel.write_buffer.put(&head);
        // Read and send each piece; remember the first error.
        let mut first = Ok(());
        for piece in pieces(span, PIECE, PAGE) {
            match self.put_content(&[], piece) {
                Err(Failure::Request(error)) => {
                    let len = piece.len() as usize;
                    self.channel.write_buffer.space(len).fill(0);
                    self.channel.write_buffer.commit(len);
                    first = first.and(Err(error));
                }
                result => result?,
            }
        }
        first?;
        self.channel.write_buffer.put(&reply::chunk(to, ChunkKind::None, ChunkPosition::Last, 0));
        Ok(())
    }

    /// Writes one chunk per data piece and hole that the device reports.
    fn read_chunks(&mut self, to: ReplyTo, span: Span) -> Result<(), Failure> {
        let size = self.limits.size;
        let part = |at, len| Span::new(at, len, size).map_err(BlockError::from);
        let mut at = span.offset();
        while at < span.end() {
            self.load_extents(part(at, span.end() - at)?, MAX_READ_EXTENTS);
            for index in 0..self.extents.len() {
                let StatusExtent { len, content } = self.extents[index];
                self.put_extent(to, part(at, len)?, content, span.end())?;
                at += len;
            }
        }
        Ok(())
    }

    /// Writes the chunks of one extent. `last` is the end of the whole reply. Units: bytes.
    fn put_extent(
        &mut self,
        to: ReplyTo,
        extent: Span,
        content: AllocationState,
        last: u64,
    ) -> Result<(), Failure> {
        let position = |part: Span| match part.end() == last {
            true => ChunkPosition::Last,
            false => ChunkPosition::NotLast,
        };
        if content == AllocationState::Data {
            return pieces(extent, PIECE, PAGE)
                .try_for_each(|piece| self.put_data_chunk(to, piece, position(piece)));
        }
        let hole = reply::hole(to, position(extent), extent.offset(), extent.len() as u32);
        self.channel.reserve(hole.len())?;
        self.channel.write_buffer.put(&hole);
        Ok(())
    }

    fn put_data_chunk(
        &mut self,
        to: ReplyTo,
        piece: Span,
        position: ChunkPosition,
    ) -> Result<(), Failure> {
        let head = reply::data_head(to, position, piece.offset(), piece.len() as u32);
        self.put_content(&head, piece)
    }

    /// Appends `head` and the content of a piece to the write buffer. Leaves it unchanged if the
    /// piece cannot be read.
    #[inline]
    fn put_content(&mut self, head: &[u8], piece: Span) -> Result<(), Failure> {
        let len = head.len() + piece.len() as usize;
        self.channel.reserve(len)?;
        let space = self.channel.write_buffer.space(len);
        self.device.read(piece, &mut space[head.len()..])?;
        space[..head.len()].copy_from_slice(head);
        self.channel.write_buffer.commit(len);
        Ok(())
    }
}
