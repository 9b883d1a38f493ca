//! The buffer of received bytes, and the reader that fills it.

use std::io::{self, Read};
use std::time::Instant;

/// The times at which waits for a client end. `None`: no deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// Deadline for reads.
    pub read: Option<Instant>,
    /// Deadline for writes to the same client.
    pub write: Option<Instant>,
}

/// The reason why a long request ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancellation {
    /// The server is closing its connections: the grace of its shutdown is over.
    Closing,
    /// The client closed the connection.
    Disconnected,
}

/// A source of requests.
pub trait Inbound: Read {
    /// Sets the deadlines for later reads, and for writes to the same client. After a deadline
    /// they fail with [`std::io::ErrorKind::TimedOut`]. A partial read or write does not move a
    /// deadline.
    ///
    /// The default does nothing, which fits a source that never blocks.
    fn set_deadlines(&mut self, _deadlines: Deadlines) {}

    /// Returns the number of bytes in the socket if the server is shutting down, else `None`.
    ///
    /// Until the first `Some`, a shutdown makes a blocked read fail with
    /// [`std::io::ErrorKind::Interrupted`]. After it, reads report the end of the stream once the
    /// server is closing its connections.
    ///
    /// # Errors
    /// The errors of the socket.
    fn backlog_at_shutdown(&mut self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// Reports that all consumed requests are answered and no message has begun.
    ///
    /// # Errors
    /// The errors of the socket.
    fn note_idle(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Returns whether the server is closing its connections: the grace of its shutdown is over.
    fn is_closing(&self) -> bool {
        false
    }

    /// Returns the reason why a long request should end now, if there is one. Does not block.
    ///
    /// # Errors
    /// The errors of the socket.
    fn cancellation(&mut self) -> io::Result<Option<Cancellation>> {
        Ok(None)
    }
}

impl Inbound for &[u8] {}

/// A buffer of constant capacity with contiguous content.
#[derive(Debug)]
pub(crate) struct ReadBuffer {
    buf: Box<[u8]>,
    start: usize,
    end: usize,
}

impl ReadBuffer {
    /// Creates an empty buffer of `len` bytes. The system provides zeroed pages on first use, so
    /// untouched parts take no memory.
    pub(crate) fn new(len: usize) -> Self {
        Self { buf: vec![0; len].into_boxed_slice(), start: 0, end: 0 }
    }

    /// Returns the content, oldest byte first.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Discards the first `len` bytes.
    pub(crate) fn consume(&mut self, len: usize) {
        self.start = self.end.min(self.start + len);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Reads once from `reader`, as many bytes as fit. First moves the content to the front if
    /// `wanted` bytes in total would not fit behind it. Returns the number of bytes read, 0 at
    /// the end of the stream.
    pub(crate) fn receive(&mut self, reader: &mut impl Read, wanted: usize) -> io::Result<usize> {
        if self.start > 0 && self.start + wanted > self.buf.len() {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let received = reader.read(&mut self.buf[self.end..])?;
        self.end += received;
        Ok(received)
    }
}
