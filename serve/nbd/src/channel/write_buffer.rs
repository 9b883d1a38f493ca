//! The buffer of replies that are not sent yet.

use std::io::{self, Write};

use crate::wire::reply::SIMPLE_LEN;

/// Initial capacity: a simple reply with 256 KiB of data. Units: bytes.
pub(crate) const WRITE_BUFFER_LEN: usize = SIMPLE_LEN + (256 << 10);
/// Number of buffered bytes at which replies are sent. Units: bytes.
const FLUSH_BYTES: usize = 64 << 10;
/// Number of buffered replies at which they are sent, so that the client can work while the
/// server does.
const FLUSH_REPLIES: u32 = 8;

/// The replies that are not sent yet. The device reads directly into their buffer. Headers and data
/// of many replies are contiguous, so a plain `send` suffices where scattered buffers would need a
/// vectored write.
#[derive(Debug)]
pub(crate) struct WriteBuffer {
    buf: Vec<u8>,
    len: usize,
    replies: u32,
}

impl WriteBuffer {
    /// Creates an empty buffer.
    pub(crate) fn new() -> Self {
        Self { buf: vec![0; WRITE_BUFFER_LEN], len: 0, replies: 0 }
    }

    /// Returns whether `len` more bytes fit without growing the buffer.
    pub(crate) fn fits(&self, len: usize) -> bool {
        len <= self.buf.len() - self.len
    }

    /// Returns the next `len` bytes for the caller to fill and then to keep with
    /// [`WriteBuffer::commit`]. Grows the buffer if they do not fit.
    pub(crate) fn space(&mut self, len: usize) -> &mut [u8] {
        let end = self.len + len;
        if end > self.buf.len() {
            // Only a short end of a reply gets here, after data that fill the buffer.
            self.buf.resize(end, 0);
        }
        &mut self.buf[self.len..end]
    }

    /// Appends the first `len` bytes of the last [`WriteBuffer::space`] to the content.
    pub(crate) fn commit(&mut self, len: usize) {
        self.len = self.buf.len().min(self.len + len);
    }

    /// Appends `bytes`.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.space(bytes.len()).copy_from_slice(bytes);
        self.commit(bytes.len());
    }

    /// Ends a reply. Returns whether the buffered replies should be sent.
    pub(crate) fn end_reply(&mut self) -> bool {
        self.replies += 1;
        self.replies >= FLUSH_REPLIES || self.len >= FLUSH_BYTES
    }

    /// Sends the whole content and shrinks the buffer to its initial capacity. The content is
    /// discarded even after an error, because the connection ends then.
    pub(crate) fn send(&mut self, writer: &mut impl Write) -> io::Result<()> {
        let sent = if self.len > 0 { send_batch(writer, &self.buf[..self.len]) } else { Ok(()) };
        self.len = 0;
        self.replies = 0;
        if self.buf.len() > WRITE_BUFFER_LEN {
            self.buf.truncate(WRITE_BUFFER_LEN);
            self.buf.shrink_to_fit();
        }
        sent
    }
}

/// Sends `bytes` as one batch. The `flush` tells the writer that the next batch has a deadline of
/// its own.
pub(crate) fn send_batch(writer: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes)?;
    writer.flush()
}
