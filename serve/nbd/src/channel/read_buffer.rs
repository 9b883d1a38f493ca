//! Bytes that came and are not consumed.

use std::io::{self, Read};
use std::time::Instant;

/// When waits for a client end; `None`: this deadline is not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// For reads.
    pub read: Option<Instant>,
    /// For writes to the same client.
    pub write: Option<Instant>,
}

/// Why a long request ends before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancellation {
    /// The server closes its connections: the grace of its shutdown is over.
    Closing,
    /// The client closed the connection.
    Disconnected,
}

/// Something requests come from.
pub trait Inbound: Read {
    /// Ends later reads, and writes to the same client, at these times with [`std::io::ErrorKind::TimedOut`]. No partial
    /// read or write moves a deadline.
    ///
    /// A source that never waits has nothing to do here.
    fn set_deadlines(&mut self, _deadlines: Deadlines) {}

    /// Returns how many bytes wait to be read if the server is shutting down, else `None`. A read that a shutdown ends fails with
    /// [`std::io::ErrorKind::Interrupted`]; after this call a read ends like at the end of the stream once all is over.
    ///
    /// # Errors
    /// Those of the socket.
    fn backlog_at_shutdown(&mut self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// Notes that everything that was consumed is answered, and no message has begun.
    ///
    /// # Errors
    /// Those of the socket.
    fn note_idle(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Returns whether the server closes its connections: the grace of its shutdown is over.
    fn is_closing(&self) -> bool {
        false
    }

    /// Returns why a request that takes long should end now, if it should. Does not wait.
    ///
    /// # Errors
    /// Those of the socket.
    fn cancellation(&mut self) -> io::Result<Option<Cancellation>> {
        Ok(None)
    }
}

impl Inbound for &[u8] {}

/// A buffer of constant size; the bytes in it are contiguous.
#[derive(Debug)]
pub struct ReadBuffer {
    buf: Box<[u8]>,
    start: usize,
    end: usize,
}

impl ReadBuffer {
    /// An empty buffer of `len` bytes. The memory comes zeroed from the system, so untouched parts cost nothing.
    pub fn new(len: usize) -> Self {
        Self { buf: vec![0; len].into_boxed_slice(), start: 0, end: 0 }
    }

    /// What came, oldest first.
    pub fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Forgets the first `len` bytes.
    pub fn consume(&mut self, len: usize) {
        self.start = self.end.min(self.start + len);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Receives once, as much as fits; `wanted` bytes in all will fit. Returns how much came, 0 at the end.
    pub fn receive(&mut self, reader: &mut impl Read, wanted: usize) -> io::Result<usize> {
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
