//! Reads: the device decodes straight into the write buffer.
//!
//! A simple reply promises all its bytes before the first is sent. So it is read whole before its head is
//! written, where a buffer is left for that; else the device verifies the span first, and it is then
//! read piece by piece. A page that becomes unreadable in between ends the connection.
//! Structured replies need neither: an error may follow data.

use super::{MAX_RUNS, PIECE, RequestResult, Transmission, piece_end};
use crate::channel::{Inbound, WRITE_BUFFER_LEN};
use crate::connection_error::ConnectionError;
use crate::reply_buffers::{REPLY_BUFFER_LEN, ReplyBuffer};
use crate::wire::reply::{self, ChunkKind, ChunkPosition, HOLE_PAYLOAD_LEN, ReplyTo, SIMPLE_LEN};
use crate::wire::request::ReadReplyKind;
use crate::wire::request_error::RequestError;
use block::{AllocationState, BlockDevice, Span, StatusExtent};
use std::io::Write;

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
        // Sent before a buffer is taken: a client that does not take its replies would hold it longer.
        self.channel.flush()?;
        let memory = self.reply_buffers;
        match (len <= REPLY_BUFFER_LEN as u64).then(|| memory.try_take()).flatten() {
            Some(buffer) => self.read_simple_pooled(to, span, buffer),
            None => self.read_simple_long(to, span),
        }
    }

    /// Reads into a buffer apart from the write buffer, where the reply does not fit.
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

    /// One data chunk, ready before it is promised.
    fn read_whole(&mut self, to: ReplyTo, span: Span) -> Result<(), ConnectionError> {
        match self.data_chunk(to, span, ChunkPosition::Last)? {
            Ok(()) => self.channel.end_reply(),
            Err(failure) => self.fail_read(to, span, &failure),
        }
    }

    /// One data chunk that is sent as it is read. What cannot be read is padded with zeros and named afterwards.
    fn read_whole_long(&mut self, to: ReplyTo, span: Span) -> Result<(), ConnectionError> {
        let len = span.len() as u32;
        self.channel.write_buffer().put(&reply::data_head(
            to,
            ChunkPosition::NotLast,
            span.offset(),
            len,
        ));
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

    /// Data and hole chunks, as the device knows them.
    fn read_chunks(&mut self, to: ReplyTo, span: Span) -> Result<(), ConnectionError> {
        let mut at = span.offset();
        while at < span.end() {
            match Span::new(at, span.end() - at, self.limits.size) {
                Ok(rest) => self.load_runs(rest, MAX_RUNS),
                Err(error) => return self.fail_read(to, span, &RequestError::OutOfRange(error)),
            }
            for index in 0..self.runs.len() {
                let StatusExtent { len, content } = self.runs[index];
                let end = at + len;
                if let Err(failure) = self.run_chunks(to, at..end, content, span.end())? {
                    return self.fail_read(to, span, &failure);
                }
                at = end;
            }
        }
        self.local_counters.bytes_read += span.len();
        self.channel.end_reply()
    }

    /// Answers for one run of equal content. `last` is where the whole reply ends.
    fn run_chunks(
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

    /// Reads one piece into a chunk of its own; nothing is kept if that fails.
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

    /// Reads one piece behind what is waiting; nothing is kept if that fails.
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

    /// A damaged page may begin before the span; the client must get an offset inside it. The span is not empty.
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

    /// Fills `runs` with what the device knows of the span, at most `max` of them and at least one. The span is not empty.
    ///
    /// What a device says is not trusted with the shape of a reply: no run is empty, and none leaves the span.
    pub(super) fn load_runs(&mut self, span: Span, max: usize) {
        self.runs.clear();
        let (runs, mut left) = (&mut self.runs, span.len());
        self.device.status(span, &mut |run| {
            let len = run.len.min(left);
            left -= len;
            if len > 0 {
                runs.push(StatusExtent { len, ..run });
            }
            left > 0 && runs.len() < max
        });
        if runs.is_empty() {
            runs.push(StatusExtent { len: span.len(), content: AllocationState::Data });
        }
    }
}

/// The span cut into pieces.
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
