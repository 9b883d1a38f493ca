//! Reads: the device decodes directly into the write buffer.
//!
//! A simple reply must not fail after its header is sent. If a buffer is free, the server reads
//! all data before it writes the header. Otherwise the device verifies the span first, and the
//! server then reads it piece by piece; a page that becomes unreadable in between ends the
//! connection. Structured replies need neither, because an error chunk may follow data.

use std::io::Write;

use block::{AllocationState, BlockDevice, Span, StatusExtent};

use super::{MAX_READ_EXTENTS, PIECE, RequestResult, Transmission, piece_end};
use crate::channel::{Inbound, WRITE_BUFFER_LEN};
use crate::connection_error::ConnectionError;
use crate::reply_buffers::{REPLY_BUFFER_LEN, ReplyBuffer};
use crate::wire::reply::{self, ChunkKind, ChunkPosition, HOLE_PAYLOAD_LEN, ReplyTo, SIMPLE_LEN};
use crate::wire::request::ReadReplyKind;
use crate::wire::request_error::RequestError;

impl<R: Inbound, W: Write> Transmission<'_, R, W> {
    /// Executes and answers a read.
    #[inline]
    pub(super) fn read(
        &mut self,
        to: ReplyTo,
        span: Span,
        reply_kind: ReadReplyKind,
    ) -> Result<(), ConnectionError> {
        match reply_kind {
            ReadReplyKind::Simple => self.read_simple(to, span),
            ReadReplyKind::Chunks | ReadReplyKind::SingleChunk if span.is_empty() => {
                self.succeed(to)
            }
            ReadReplyKind::SingleChunk if span.len() > PIECE => self.read_whole_long(to, span),
            ReadReplyKind::SingleChunk => self.read_whole(to, span),
            ReadReplyKind::Chunks => self.read_chunks(to, span),
        }
    }

    fn read_simple(&mut self, to: ReplyTo, span: Span) -> Result<(), ConnectionError> {
        let len = SIMPLE_LEN as u64 + span.len();
        if len <= WRITE_BUFFER_LEN as u64 {
            return self.read_simple_whole(to, span);
        }
        // Send the buffered replies before taking a buffer: a client that does not read them
        // would keep the buffer in use.
        self.channel.flush()?;
        let pool = self.reply_buffers;
        match (len <= REPLY_BUFFER_LEN as u64).then(|| pool.try_take()).flatten() {
            Some(buffer) => self.read_simple_pooled(to, span, buffer),
            None => self.read_simple_long(to, span),
        }
    }

    /// Answers with a simple reply that fits a pool buffer but not the write buffer.
    fn read_simple_pooled(
        &mut self,
        to: ReplyTo,
        span: Span,
        mut buffer: ReplyBuffer<'_>,
    ) -> Result<(), ConnectionError> {
        let reply = buffer.first(SIMPLE_LEN + span.len() as usize);
        if let Err(error) = self.device.read(span, &mut reply[SIMPLE_LEN..]) {
            return self.fail(to, &error.into());
        }
        reply[..SIMPLE_LEN].copy_from_slice(&reply::simple(to.cookie, None));
        self.local_counters.bytes_read += span.len();
        self.channel.send_reply(reply)
    }

    /// Answers with a simple reply that fits the write buffer.
    fn read_simple_whole(&mut self, to: ReplyTo, span: Span) -> Result<(), ConnectionError> {
        let len = SIMPLE_LEN + span.len() as usize;
        self.channel.reserve(len)?;
        let space = self.channel.write_buffer().space(len);
        if let Err(error) = self.device.read(span, &mut space[SIMPLE_LEN..]) {
            return self.fail(to, &error.into());
        }
        space[..SIMPLE_LEN].copy_from_slice(&reply::simple(to.cookie, None));
        self.channel.write_buffer().commit(len);
        self.local_counters.bytes_read += span.len();
        self.channel.end_reply()
    }

    /// Answers with a simple reply of any length: verifies the span, then sends it piece by
    /// piece.
    fn read_simple_long(&mut self, to: ReplyTo, span: Span) -> Result<(), ConnectionError> {
        if let Err(error) = self.device.verify(span) {
            return self.fail(to, &error.into());
        }
        self.channel.write_buffer().put(&reply::simple(to.cookie, None));
        for piece in pieces(span, self.device) {
            self.read_piece(piece)?.map_err(|_| ConnectionError::FailedMidReply)?;
        }
        self.local_counters.bytes_read += span.len();
        self.channel.end_reply()
    }

    /// Answers with one data chunk, which is read before its header is written.
    fn read_whole(&mut self, to: ReplyTo, span: Span) -> Result<(), ConnectionError> {
        match self.data_chunk(to, span, ChunkPosition::Last)? {
            Ok(()) => self.channel.end_reply(),
            Err(failure) => self.fail_read(to, span, &failure),
        }
    }

    /// Answers with one data chunk that is sent while it is read. Zeros replace unreadable
    /// pieces, and an error chunk with the first unreadable offset follows.
    fn read_whole_long(&mut self, to: ReplyTo, span: Span) -> Result<(), ConnectionError> {
        let len = span.len() as u32;
        self.channel.write_buffer().put(&reply::data_head(
            to,
            ChunkPosition::NotLast,
            span.offset(),
            len,
        ));
        // Read and send each piece; remember the first error.
        let mut first = None;
        for piece in pieces(span, self.device) {
            if let Err(failure) = self.read_piece(piece)? {
                let len = piece.len() as usize;
                let write_buffer = self.channel.write_buffer();
                write_buffer.space(len).fill(0);
                write_buffer.commit(len);
                first.get_or_insert(failure);
            }
        }
        if let Some(failure) = first {
            return self.fail_read(to, span, &failure);
        }
        self.local_counters.bytes_read += span.len();
        self.channel.write_buffer().put(&reply::chunk(to, ChunkKind::None, ChunkPosition::Last, 0));
        self.channel.end_reply()
    }

    /// Answers with one chunk per data piece and hole that the device reports.
    fn read_chunks(&mut self, to: ReplyTo, span: Span) -> Result<(), ConnectionError> {
        let mut at = span.offset();
        // Fetch the device's extents, then write their chunks.
        while at < span.end() {
            match Span::new(at, span.end() - at, self.limits.size) {
                Ok(rest) => self.load_extents(rest, MAX_READ_EXTENTS),
                Err(error) => return self.fail_read(to, span, &RequestError::OutOfRange(error)),
            }
            for index in 0..self.extents.len() {
                let StatusExtent { len, content } = self.extents[index];
                let end = at + len;
                if let Err(failure) = self.extent_chunks(to, at..end, content, span.end())? {
                    return self.fail_read(to, span, &failure);
                }
                at = end;
            }
        }
        self.local_counters.bytes_read += span.len();
        self.channel.end_reply()
    }

    /// Writes the chunks of one extent. `last` is the end of the whole reply. Units: bytes.
    fn extent_chunks(
        &mut self,
        to: ReplyTo,
        range: std::ops::Range<u64>,
        content: AllocationState,
        last: u64,
    ) -> RequestResult {
        let position = |end| if end == last { ChunkPosition::Last } else { ChunkPosition::NotLast };
        if content != AllocationState::Data {
            self.channel.reserve(to.headers.chunk_len() + HOLE_PAYLOAD_LEN)?;
            let len = (range.end - range.start) as u32;
            self.channel.write_buffer().put(&reply::hole(
                to,
                position(range.end),
                range.start,
                len,
            ));
            return Ok(Ok(()));
        }
        // Send data in pieces, one chunk each.
        let mut at = range.start;
        while at < range.end {
            let end = piece_end(at, range.end);
            let piece = match Span::new(at, end - at, self.limits.size) {
                Ok(piece) => piece,
                Err(error) => return Ok(Err(RequestError::OutOfRange(error))),
            };
            if let Err(failure) = self.data_chunk(to, piece, position(end))? {
                return Ok(Err(failure));
            }
            at = end;
        }
        Ok(Ok(()))
    }

    /// Reads one piece into a data chunk. Leaves the write buffer unchanged if that fails.
    fn data_chunk(&mut self, to: ReplyTo, piece: Span, position: ChunkPosition) -> RequestResult {
        let head = reply::data_head(to, position, piece.offset(), piece.len() as u32);
        let len = head.len() + piece.len() as usize;
        self.channel.reserve(len)?;
        let space = self.channel.write_buffer().space(len);
        if let Err(error) = self.device.read(piece, &mut space[head.len()..]) {
            return Ok(Err(error.into()));
        }
        space[..head.len()].copy_from_slice(&head);
        self.channel.write_buffer().commit(len);
        Ok(Ok(()))
    }

    /// Appends one piece to the write buffer. Leaves it unchanged if that fails.
    fn read_piece(&mut self, piece: Span) -> RequestResult {
        let len = piece.len() as usize;
        self.channel.reserve(len)?;
        let space = self.channel.write_buffer().space(len);
        if let Err(error) = self.device.read(piece, space) {
            return Ok(Err(error.into()));
        }
        self.channel.write_buffer().commit(len);
        Ok(Ok(()))
    }

    /// Ends a structured read with an error chunk. Clamps the error's offset to the span, because
    /// a damaged page may begin before it. The span is not empty.
    fn fail_read(
        &mut self,
        to: ReplyTo,
        span: Span,
        failure: &RequestError,
    ) -> Result<(), ConnectionError> {
        match failure.offset() {
            Some(offset) => {
                let offset = offset.clamp(span.offset(), span.end() - 1);
                self.fail_at(to, failure, offset)
            }
            None => self.fail(to, failure),
        }
    }

    /// Fills `self.extents` with the device's extents of the span: at least one, at most `max`.
    /// The span is not empty.
    ///
    /// The device's answer is not trusted: empty extents are dropped, and none leaves the span.
    pub(super) fn load_extents(&mut self, span: Span, max: usize) {
        self.extents.clear();
        let (extents, mut left) = (&mut self.extents, span.len());
        self.device.status(span, &mut |extent| {
            let len = extent.len.min(left);
            left -= len;
            if len > 0 {
                extents.push(StatusExtent { len, ..extent });
            }
            left > 0 && extents.len() < max
        });
        if extents.is_empty() {
            extents.push(StatusExtent { len: span.len(), content: AllocationState::Data });
        }
    }
}

/// Returns the pieces of the span.
fn pieces(span: Span, device: &dyn BlockDevice) -> impl Iterator<Item = Span> + use<> {
    let size = device.size();
    let mut at = span.offset();
    std::iter::from_fn(move || {
        let end = piece_end(at, span.end());
        let piece = Span::new(at, end - at, size).ok().filter(|piece| !piece.is_empty());
        at = end;
        piece
    })
}
