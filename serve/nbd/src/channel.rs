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

use crate::connection_error::ConnectionError;
use read_buffer::ReadBuffer;
use write_buffer::send_batch;

pub use read_buffer::{Cancellation, Deadlines, Inbound};
pub(crate) use write_buffer::{WRITE_BUFFER_LEN, WriteBuffer};

/// Capacity of the read buffer. Units: bytes.
pub(crate) const READ_BUFFER_LEN: usize = 256 << 10;
/// Number of buffered bytes at which replies are sent. Units: bytes.
const FLUSH_BYTES: usize = 64 << 10;
/// Number of buffered replies at which they are sent, so that the client can work while the
/// server does.
const FLUSH_REPLIES: u32 = 8;
/// Number of bytes that the client must send within one idle timeout while they are skipped.
/// Units: bytes.
const MAX_SKIP: u64 = 128 << 10;

/// A reader, a writer and the buffers of a connection.
#[derive(Debug)]
pub(crate) struct Channel<R, W> {
    reader: R,
    writer: W,
    read_buffer: ReadBuffer,
    write_buffer: WriteBuffer,
    deadline: Option<Instant>,
    idle_timeout: Option<Duration>,
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

    /// Sets the time for the client to send each message, or each piece of a long one. It applies
    /// only while no deadline is set.
    pub(crate) fn set_idle_timeout(&mut self, timeout: Option<Duration>) {
        self.idle_timeout = timeout;
    }

    /// Returns the bytes that were received and not consumed.
    pub(crate) fn received(&self) -> &[u8] {
        self.read_buffer.bytes()
    }

    /// Returns the first `len` received bytes, and the write buffer for the reply. The caller
    /// must have waited for these bytes.
    pub(crate) fn message(&mut self, len: usize) -> (&[u8], &mut WriteBuffer) {
        let bytes = self.read_buffer.bytes();
        (&bytes[..len.min(bytes.len())], &mut self.write_buffer)
    }

    /// Returns the buffer of replies that are not sent yet.
    pub(crate) fn write_buffer(&mut self) -> &mut WriteBuffer {
        &mut self.write_buffer
    }

    /// Waits for the first `len` bytes of the next message. `len` is at most [`READ_BUFFER_LEN`].
    ///
    /// # Errors
    /// [`ConnectionError::Closed`] if the client closed the connection between two messages,
    /// [`ConnectionError::UnexpectedEof`] if it closed it later, and as [`Channel::fill`].
    pub(crate) fn await_message(&mut self, len: usize) -> Result<(), ConnectionError> {
        match self.receive(len, true) {
            Err(ConnectionError::UnexpectedEof) if self.read_buffer.bytes().is_empty() => {
                Err(ConnectionError::Closed)
            }
            result => result,
        }
    }

    /// Waits until `len` bytes of the current message are received. `len` is at most
    /// [`READ_BUFFER_LEN`].
    ///
    /// # Errors
    /// [`ConnectionError::UnexpectedEof`] if the client closed the connection before that,
    /// [`ConnectionError::TimedOut`] at a deadline, [`ConnectionError::Io`].
    pub(crate) fn fill(&mut self, len: usize) -> Result<(), ConnectionError> {
        self.receive(len, false)
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

    /// Discards the first `len` received bytes.
    pub(crate) fn consume(&mut self, len: usize) {
        self.read_buffer.consume(len);
    }

    /// Receives and discards `len` bytes.
    ///
    /// # Errors
    /// As [`Channel::fill`].
    pub(crate) fn skip(&mut self, mut len: u64) -> Result<(), ConnectionError> {
        while len > 0 {
            // Receive up to MAX_SKIP bytes per step, because each step has its own idle timeout.
            self.fill(len.min(MAX_SKIP) as usize)?;
            let here = self.read_buffer.bytes().len();
            let step = usize::try_from(len).map_or(here, |len| here.min(len));
            self.read_buffer.consume(step);
            len -= step as u64;
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
        self.write_buffer.count_reply();
        if self.write_buffer.replies() >= FLUSH_REPLIES || self.write_buffer.len() >= FLUSH_BYTES {
            self.flush()
        } else {
            Ok(())
        }
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

    /// Returns the reason why a long request should end now, if there is one. Does not block.
    ///
    /// # Errors
    /// [`ConnectionError::Io`].
    pub(crate) fn cancellation(&mut self) -> Result<Option<Cancellation>, ConnectionError> {
        Ok(self.reader.cancellation()?)
    }

    /// Returns whether the server is closing its connections.
    pub(crate) fn is_closing(&self) -> bool {
        self.reader.is_closing()
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
