//! The two buffers of a connection. Before the channel waits to receive, it sends all buffered
//! replies.
//!
//! That rule makes batching safe. Replies are batched while complete requests are in the read
//! buffer, so that many requests cost one `recv` and one `send`. A client that waits for a reply
//! before it sends more never waits for a batch to fill.

mod read_buffer;
mod write_buffer;

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use crate::error::ConnectionError;
use read_buffer::ReadBuffer;
use write_buffer::send_batch;

pub use read_buffer::{Cancellation, Deadlines, Inbound};
pub(crate) use write_buffer::{WRITE_BUFFER_LEN, WriteBuffer};

/// Capacity of the read buffer. Units: bytes.
pub(crate) const READ_BUFFER_LEN: usize = 256 << 10;
/// Number of bytes that the client must send within one idle timeout while they are skipped.
/// Units: bytes.
const MAX_SKIP: u64 = 128 << 10;

/// A reader, a writer and the buffers of a connection.
#[derive(Debug)]
pub(crate) struct Channel<R, W> {
    /// The source of requests.
    pub reader: R,
    writer: W,
    /// The bytes that were received and not consumed.
    pub read_buffer: ReadBuffer,
    /// The replies that are not sent yet.
    pub write_buffer: WriteBuffer,
    deadline: Option<Instant>,
    /// Time for the client to send each message, or each piece of a long one. Applies only while
    /// no deadline is set.
    pub idle_timeout: Option<Duration>,
    /// Bytes received since the connection began.
    bytes_received: u64,
    /// Bytes that had arrived when the connection noticed a shutdown, received or still in the
    /// socket. Requests that begin before this position are served.
    before_shutdown: Option<u64>,
}

impl<R: Inbound, W: Write> Channel<R, W> {
    /// Creates a channel without deadlines. Its buffers take memory only as they are used.
    pub(crate) fn new(reader: R, writer: W) -> Self {
        Self {
            reader,
            writer,
            read_buffer: ReadBuffer::new(READ_BUFFER_LEN),
            write_buffer: WriteBuffer::new(),
            deadline: None,
            idle_timeout: None,
            bytes_received: 0,
            before_shutdown: None,
        }
    }

    /// Sets one deadline for all later reads and writes; `None` removes it.
    pub(crate) fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
        self.reader.set_deadlines(Deadlines { read: deadline, write: deadline });
    }

    /// Waits for the first `len` bytes of the next message and returns them. `len` is at most
    /// [`READ_BUFFER_LEN`]. Returns `None` if the client closed the connection between two
    /// messages.
    ///
    /// # Errors
    /// As [`Channel::fill`].
    pub(crate) fn await_message(&mut self, len: usize) -> Result<Option<&[u8]>, ConnectionError> {
        match self.receive(len, true) {
            // The end, or a reset: the client closed its socket with unread replies in it.
            Err(ConnectionError::UnexpectedEof) if self.read_buffer.bytes().is_empty() => Ok(None),
            result => result.map(|()| Some(&self.read_buffer.bytes()[..len])),
        }
    }

    /// Waits until `len` bytes of the current message are received and returns them. `len` is at
    /// most [`READ_BUFFER_LEN`].
    ///
    /// # Errors
    /// [`ConnectionError::UnexpectedEof`] if the client closed the connection before that,
    /// [`ConnectionError::TimedOut`] at a deadline, [`ConnectionError::Io`].
    pub(crate) fn fill(&mut self, len: usize) -> Result<&[u8], ConnectionError> {
        self.receive(len, false)?;
        Ok(&self.read_buffer.bytes()[..len])
    }

    fn receive(&mut self, len: usize, is_next_message: bool) -> Result<(), ConnectionError> {
        // Send all replies before the first wait: the client may wait for them.
        if self.read_buffer.bytes().len() < len {
            self.flush()?;
            self.start_wait();
        }
        while self.read_buffer.bytes().len() < len {
            if self.notice_shutdown()? && is_next_message && self.read_buffer.bytes().is_empty() {
                self.reader.note_idle()?;
            }
            match self.read_buffer.receive(&mut self.reader, len) {
                Ok(0) => return Err(ConnectionError::UnexpectedEof),
                Ok(received) => self.bytes_received += received as u64,
                // A signal, or a shutdown that began during the wait: check again.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Receives and discards `len` bytes.
    ///
    /// # Errors
    /// As [`Channel::fill`].
    pub(crate) fn skip(&mut self, mut len: u64) -> Result<(), ConnectionError> {
        while len > 0 {
            // Receive up to MAX_SKIP bytes per step, because each step has its own idle timeout.
            self.fill(len.min(MAX_SKIP) as usize)?;
            let step = len.min(self.read_buffer.bytes().len() as u64);
            self.read_buffer.consume(step as usize);
            len -= step;
        }
        Ok(())
    }

    /// Makes room for `len` more bytes in the write buffer: sends its content if they do not fit.
    /// The buffer still has to grow if `len` exceeds its capacity.
    ///
    /// # Errors
    /// As [`Channel::flush`].
    pub(crate) fn reserve(&mut self, len: usize) -> Result<(), ConnectionError> {
        if self.write_buffer.fits(len) { Ok(()) } else { self.flush() }
    }

    /// Ends a reply. Sends the buffered replies if there are enough of them.
    ///
    /// # Errors
    /// As [`Channel::flush`].
    pub(crate) fn end_reply(&mut self) -> Result<(), ConnectionError> {
        if self.write_buffer.end_reply() { self.flush() } else { Ok(()) }
    }

    /// Sends all buffered replies.
    ///
    /// # Errors
    /// [`ConnectionError::TimedOut`] at a deadline, [`ConnectionError::UnexpectedEof`] if the
    /// client is gone, [`ConnectionError::Io`].
    pub(crate) fn flush(&mut self) -> Result<(), ConnectionError> {
        Ok(self.write_buffer.send(&mut self.writer)?)
    }

    /// Sends all buffered replies, then `reply`, without copying it.
    ///
    /// # Errors
    /// As [`Channel::flush`].
    pub(crate) fn send_reply(&mut self, reply: &[u8]) -> Result<(), ConnectionError> {
        self.flush()?;
        Ok(send_batch(&mut self.writer, reply)?)
    }

    /// Checks for a shutdown. Returns whether this connection has noticed one; the first time,
    /// also records how many bytes have arrived.
    ///
    /// # Errors
    /// [`ConnectionError::Io`].
    pub(crate) fn notice_shutdown(&mut self) -> Result<bool, ConnectionError> {
        if self.before_shutdown.is_none() {
            self.before_shutdown =
                self.reader.backlog_at_shutdown()?.map(|waiting| self.bytes_received + waiting);
        }
        Ok(self.before_shutdown.is_some())
    }

    /// Returns whether the current message arrived after the connection had noticed a shutdown.
    pub(crate) fn is_after_shutdown(&self) -> bool {
        let start = self.bytes_received - self.read_buffer.bytes().len() as u64;
        self.before_shutdown.is_some_and(|before| start >= before)
    }

    /// Starts the idle timeout once per message; further bytes of the message do not restart it.
    fn start_wait(&mut self) {
        if let (None, Some(timeout)) = (self.deadline, self.idle_timeout) {
            let read = Instant::now().checked_add(timeout);
            self.reader.set_deadlines(Deadlines { read, write: None });
        }
    }
}
