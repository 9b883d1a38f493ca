//! Replies that wait to be sent, as one contiguous run of bytes.
//!
//! The device reads straight into it. Since heads and data of many replies lie one behind the other, one plain `send` does what a
//! vectored write would do for scattered buffers.

use crate::wire::reply::SIMPLE_LEN;
use std::io::{self, Write};

/// Room before the write buffer is emptied or grows: a simple reply with 256 KiB of data. Units: bytes.
pub const WRITE_BUFFER_LEN: usize = SIMPLE_LEN + (256 << 10);

/// Replies that wait to be sent.
#[derive(Debug)]
pub struct WriteBuffer {
    buf: Vec<u8>,
    len: usize,
    replies: u32,
}

impl WriteBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self { buf: vec![0; WRITE_BUFFER_LEN], len: 0, replies: 0 }
    }

    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Replies waiting.
    pub fn replies(&self) -> u32 {
        self.replies
    }

    /// Whether `len` more bytes fit without growing.
    pub fn fits(&self, len: usize) -> bool {
        len <= self.buf.len() - self.len
    }

    /// The next `len` bytes, to be filled and then kept by [`WriteBuffer::commit`]. Grows if it must.
    pub fn space(&mut self, len: usize) -> &mut [u8] {
        let end = self.len + len;
        if end > self.buf.len() {
            // Only a short end of a reply, behind data that fill the write buffer, comes here.
            self.buf.resize(end, 0);
        }
        &mut self.buf[self.len..end]
    }

    /// Keeps the first `len` bytes of the last [`WriteBuffer::space`].
    pub fn commit(&mut self, len: usize) {
        self.len = self.buf.len().min(self.len + len);
    }

    /// Adds `bytes`.
    pub fn put(&mut self, bytes: &[u8]) {
        self.space(bytes.len()).copy_from_slice(bytes);
        self.commit(bytes.len());
    }

    /// One more reply is complete.
    pub fn count_reply(&mut self) {
        self.replies += 1;
    }

    /// Sends everything, and gives back what the write buffer grew by. After an error nothing is waiting any more: the
    /// connection ends.
    pub fn send(&mut self, writer: &mut impl Write) -> io::Result<()> {
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

/// Sends these bytes, and tells the writer that the next ones are another batch, with a deadline of its own.
pub fn send_batch(writer: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes)?;
    writer.flush()
}
