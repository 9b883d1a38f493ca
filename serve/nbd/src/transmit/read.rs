//! Reads: the device decodes straight into the outbox.
//!
//! A simple reply promises all its bytes before the first is sent. So it is read whole before its head is
//! written, where a buffer is left for that; else the device verifies the span first, and it is then
//! read piece by piece. A page that becomes unreadable in between ends the connection.
//! Structured replies need neither: an error may follow data.

use super::{Attempt, Line, PIECE, RUNS, piece_end};
use crate::channel::{Inbound, OUTBOX_ROOM};
use crate::hangup::Hangup;
use crate::reply_memory::{REPLY_ROOM, ReplyBuffer};
use crate::wire::failure::Failure;
use crate::wire::reply::{self, ChunkKind, HOLE_PAYLOAD_LEN, Place, ReplyTo, SIMPLE_LEN};
use crate::wire::request::Shape;
use block::{BlockDevice, Content, Run, Span};
use std::io::Write;

impl<R: Inbound, W: Write> Line<'_, R, W> {
    /// Executes and answers a read.
    #[inline]
    pub(super) fn read(&mut self, to: ReplyTo, span: Span, shape: Shape) -> Result<(), Hangup> {
        match shape {
            Shape::Simple => self.read_simple(to, span),
            Shape::Chunks | Shape::Whole if span.is_empty() => self.succeed(to),
            Shape::Whole if span.len() > PIECE => self.read_whole_long(to, span),
            Shape::Whole => self.read_whole(to, span),
            Shape::Chunks => self.read_chunks(to, span),
        }
    }

    fn read_simple(&mut self, to: ReplyTo, span: Span) -> Result<(), Hangup> {
        let len = SIMPLE_LEN as u64 + span.len();
        if len <= OUTBOX_ROOM as u64 {
            return self.read_simple_whole(to, span);
        }
        // Sent before a buffer is taken: a client that does not take its replies would hold it longer.
        self.channel.flush()?;
        let memory = self.reply_memory;
        match (len <= REPLY_ROOM as u64).then(|| memory.try_take()).flatten() {
            Some(buffer) => self.read_simple_apart(to, span, buffer),
            None => self.read_simple_long(to, span),
        }
    }

    /// Reads into a buffer apart from the outbox, where the reply does not fit.
    fn read_simple_apart(
        &mut self,
        to: ReplyTo,
        span: Span,
        mut buffer: ReplyBuffer<'_>,
    ) -> Result<(), Hangup> {
        let reply = buffer.first(SIMPLE_LEN + span.len() as usize);
        if let Err(error) = self.device.read(span, &mut reply[SIMPLE_LEN..]) {
            return self.fail(to, &error.into());
        }
        reply[..SIMPLE_LEN].copy_from_slice(&reply::simple(to.cookie, None));
        self.tally.bytes_read += span.len();
        self.channel.send_reply(reply)
    }

    fn read_simple_whole(&mut self, to: ReplyTo, span: Span) -> Result<(), Hangup> {
        let len = SIMPLE_LEN + span.len() as usize;
        self.channel.reserve(len)?;
        let space = self.channel.outbox().space(len);
        if let Err(error) = self.device.read(span, &mut space[SIMPLE_LEN..]) {
            return self.fail(to, &error.into());
        }
        space[..SIMPLE_LEN].copy_from_slice(&reply::simple(to.cookie, None));
        self.channel.outbox().commit(len);
        self.tally.bytes_read += span.len();
        self.channel.end_reply()
    }

    fn read_simple_long(&mut self, to: ReplyTo, span: Span) -> Result<(), Hangup> {
        if let Err(error) = self.device.verify(span) {
            return self.fail(to, &error.into());
        }
        self.channel.outbox().put(&reply::simple(to.cookie, None));
        for piece in pieces(span, self.device) {
            self.read_piece(piece)?.map_err(|_| Hangup::LateFailure)?;
        }
        self.tally.bytes_read += span.len();
        self.channel.end_reply()
    }

    /// One data chunk, ready before it is promised.
    fn read_whole(&mut self, to: ReplyTo, span: Span) -> Result<(), Hangup> {
        match self.data_chunk(to, span, Place::Last)? {
            Ok(()) => self.channel.end_reply(),
            Err(failure) => self.fail_read(to, span, &failure),
        }
    }

    /// One data chunk that is sent as it is read. What cannot be read is padded with zeros and named afterwards.
    fn read_whole_long(&mut self, to: ReplyTo, span: Span) -> Result<(), Hangup> {
        let len = span.len() as u32;
        self.channel.outbox().put(&reply::data_head(to, Place::Inner, span.offset(), len));
        let mut first = None;
        for piece in pieces(span, self.device) {
            if let Err(failure) = self.read_piece(piece)? {
                let len = piece.len() as usize;
                let outbox = self.channel.outbox();
                outbox.space(len).fill(0);
                outbox.commit(len);
                first.get_or_insert(failure);
            }
        }
        if let Some(failure) = first {
            return self.fail_read(to, span, &failure);
        }
        self.tally.bytes_read += span.len();
        self.channel.outbox().put(&reply::chunk(to, ChunkKind::None, Place::Last, 0));
        self.channel.end_reply()
    }

    /// Data and hole chunks, as the device knows them.
    fn read_chunks(&mut self, to: ReplyTo, span: Span) -> Result<(), Hangup> {
        let mut at = span.offset();
        while at < span.end() {
            match Span::new(at, span.end() - at, self.rules.size) {
                Ok(rest) => self.look_ahead(rest, RUNS),
                Err(error) => return self.fail_read(to, span, &Failure::Outside(error)),
            }
            for index in 0..self.runs.len() {
                let Run { len, content } = self.runs[index];
                let end = at + len;
                if let Err(failure) = self.run_chunks(to, at..end, content, span.end())? {
                    return self.fail_read(to, span, &failure);
                }
                at = end;
            }
        }
        self.tally.bytes_read += span.len();
        self.channel.end_reply()
    }

    /// Answers for one run of equal content. `last` is where the whole reply ends.
    fn run_chunks(
        &mut self,
        to: ReplyTo,
        range: std::ops::Range<u64>,
        content: Content,
        last: u64,
    ) -> Attempt {
        let place = |end| if end == last { Place::Last } else { Place::Inner };
        if content != Content::Data {
            self.channel.reserve(to.headers.chunk_len() + HOLE_PAYLOAD_LEN)?;
            let len = (range.end - range.start) as u32;
            self.channel.outbox().put(&reply::hole(to, place(range.end), range.start, len));
            return Ok(Ok(()));
        }
        let mut at = range.start;
        while at < range.end {
            let end = piece_end(at, range.end);
            let piece = match Span::new(at, end - at, self.rules.size) {
                Ok(piece) => piece,
                Err(error) => return Ok(Err(Failure::Outside(error))),
            };
            if let Err(failure) = self.data_chunk(to, piece, place(end))? {
                return Ok(Err(failure));
            }
            at = end;
        }
        Ok(Ok(()))
    }

    /// Reads one piece into a chunk of its own; nothing is kept if that fails.
    fn data_chunk(&mut self, to: ReplyTo, piece: Span, place: Place) -> Attempt {
        let head = reply::data_head(to, place, piece.offset(), piece.len() as u32);
        let len = head.len() + piece.len() as usize;
        self.channel.reserve(len)?;
        let space = self.channel.outbox().space(len);
        if let Err(error) = self.device.read(piece, &mut space[head.len()..]) {
            return Ok(Err(error.into()));
        }
        space[..head.len()].copy_from_slice(&head);
        self.channel.outbox().commit(len);
        Ok(Ok(()))
    }

    /// Reads one piece behind what is waiting; nothing is kept if that fails.
    fn read_piece(&mut self, piece: Span) -> Attempt {
        let len = piece.len() as usize;
        self.channel.reserve(len)?;
        let space = self.channel.outbox().space(len);
        if let Err(error) = self.device.read(piece, space) {
            return Ok(Err(error.into()));
        }
        self.channel.outbox().commit(len);
        Ok(Ok(()))
    }

    /// A damaged page may begin before the span; the client must get an offset inside it. The span is not empty.
    fn fail_read(&mut self, to: ReplyTo, span: Span, failure: &Failure) -> Result<(), Hangup> {
        match failure.offset() {
            Some(offset) => {
                let offset = offset.clamp(span.offset(), span.end() - 1);
                self.fail_at(to, failure, offset)
            }
            None => self.fail(to, failure),
        }
    }

    /// Fills `runs` with what the device knows of the span, at most `most` of them and at least one. The span is not empty.
    ///
    /// What a device says is not trusted with the shape of a reply: no run is empty, and none leaves the span.
    pub(super) fn look_ahead(&mut self, span: Span, most: usize) {
        self.runs.clear();
        let (runs, mut left) = (&mut self.runs, span.len());
        self.device.status(span, &mut |run| {
            let len = run.len.min(left);
            left -= len;
            if len > 0 {
                runs.push(Run { len, ..run });
            }
            left > 0 && runs.len() < most
        });
        if runs.is_empty() {
            runs.push(Run { len: span.len(), content: Content::Data });
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
