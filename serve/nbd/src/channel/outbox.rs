//! Replies that wait to be sent, as one contiguous run of bytes.
//!
//! The device reads straight into it. Since heads and data of many replies lie one behind the other, one plain `send` does what a
//! vectored write would do for scattered buffers.

use std::io::{self, Write};

/// Room before the outbox is emptied or grows. Units: bytes.
pub const OUTBOX_ROOM: usize = 256 << 10;

/// Replies that wait to be sent.
#[derive(Debug)]
pub struct Outbox {
    room: Vec<u8>,
    len: usize,
    replies: u32,
}

impl Outbox {
    /// An empty outbox.
    pub fn new() -> Self {
        Self { room: vec![0; OUTBOX_ROOM], len: 0, replies: 0 }
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
        len <= self.room.len() - self.len
    }

    /// The next `len` bytes, to be filled and then kept by [`Outbox::commit`]. Grows if it must.
    pub fn space(&mut self, len: usize) -> &mut [u8] {
        let end = self.len + len;
        if end > self.room.len() {
            // Exactly, since the memory for long replies is counted by their length.
            self.room.reserve_exact(end - self.room.len());
            self.room.resize(end, 0);
        }
        &mut self.room[self.len..end]
    }

    /// Keeps the first `len` bytes of the last [`Outbox::space`].
    pub fn commit(&mut self, len: usize) {
        self.len = self.room.len().min(self.len + len);
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

    /// Sends everything, and gives back what the outbox grew by.
    pub fn send(&mut self, writer: &mut impl Write) -> io::Result<()> {
        if self.len > 0 {
            writer.write_all(&self.room[..self.len])?;
            // Tells the writer that the next bytes are another batch, with a deadline of its own.
            writer.flush()?;
        }
        self.len = 0;
        self.replies = 0;
        if self.room.len() > OUTBOX_ROOM {
            self.room.truncate(OUTBOX_ROOM);
            self.room.shrink_to_fit();
        }
        Ok(())
    }
}
