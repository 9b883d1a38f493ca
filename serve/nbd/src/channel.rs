//! One connection's two buffers and the rule that joins them: whatever is waiting to be sent is sent before the server waits to receive.
//!
//! That rule makes batching safe. Replies collect in the write buffer while complete requests lie in the read buffer, so that many
//! requests cost one `recv` and one `send`; but a client that waits for a reply before it sends more is never left waiting.

mod read_buffer;
mod write_buffer;

pub use read_buffer::{Cancellation, Deadlines, Inbound};
use write_buffer::send_batch;
pub use write_buffer::{WRITE_BUFFER_LEN, WriteBuffer};

use crate::connection_error::ConnectionError;
use read_buffer::ReadBuffer;
use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

/// Room for requests that came and are not done. Units: bytes.
pub const READ_BUFFER_LEN: usize = 256 << 10;
/// Replies are sent when this much of them is waiting. Units: bytes.
const FLUSH_BYTES: usize = 64 << 10;
/// Replies are sent when this many of them are waiting, so that the client can work while the server does.
const FLUSH_REPLIES: u32 = 8;
/// Most bytes that are skipped within one idle timeout. Units: bytes.
const MAX_SKIP: u64 = 128 << 10;

/// What is read from, what is written to, and what lies in between.
#[derive(Debug)]
pub struct Channel<R, W> {
    reader: R,
    writer: W,
    read_buffer: ReadBuffer,
    write_buffer: WriteBuffer,
    deadline: Option<Instant>,
    idle_timeout: Option<Duration>,
    /// Received since the connection began. Units: bytes.
    bytes_received: u64,
    /// What had come when a shutdown was noticed, read or not. Units: bytes.
    before_shutdown: Option<u64>,
}

impl<R: Inbound, W: Write> Channel<R, W> {
    /// An idle channel. Its buffers take memory as they are used.
    pub fn new(reader: R, writer: W) -> Self {
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

    /// Ends every later wait for the client at `deadline`, whether to receive or to send; `None`: no common deadline.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
        self.reader.set_deadlines(Deadlines { read: deadline, write: deadline });
    }

    /// Limits how long the client may take for each message, or for each piece of a long one, where no deadline is set.
    pub fn set_idle_timeout(&mut self, timeout: Option<Duration>) {
        self.idle_timeout = timeout;
    }

    /// What came and was not consumed.
    pub fn received(&self) -> &[u8] {
        self.read_buffer.bytes()
    }

    /// The first `len` bytes that came, and the write buffer to answer into. They must have been awaited.
    pub fn message(&mut self, len: usize) -> (&[u8], &mut WriteBuffer) {
        let bytes = self.read_buffer.bytes();
        (&bytes[..len.min(bytes.len())], &mut self.write_buffer)
    }

    /// Where replies go.
    pub fn write_buffer(&mut self) -> &mut WriteBuffer {
        &mut self.write_buffer
    }

    /// Waits for the first `len` bytes of a message. `len` is at most [`READ_BUFFER_LEN`].
    ///
    /// # Errors
    /// [`ConnectionError::Closed`] when the client closed instead of sending one.
    pub fn await_message(&mut self, len: usize) -> Result<(), ConnectionError> {
        match self.receive(len, true) {
            Err(ConnectionError::UnexpectedEof) if self.read_buffer.bytes().is_empty() => {
                Err(ConnectionError::Closed)
            }
            result => result,
        }
    }

    /// Waits until `len` bytes of a message that has begun are there. `len` is at most [`READ_BUFFER_LEN`].
    ///
    /// # Errors
    /// [`ConnectionError::UnexpectedEof`] when the client closed before that.
    pub fn fill(&mut self, len: usize) -> Result<(), ConnectionError> {
        self.receive(len, false)
    }

    fn receive(&mut self, len: usize, is_next_message: bool) -> Result<(), ConnectionError> {
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
                // A signal, or a shutdown that began during the wait.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Forgets the first `len` bytes that came.
    pub fn consume(&mut self, len: usize) {
        self.read_buffer.consume(len);
    }

    /// Receives and forgets `len` bytes.
    ///
    /// # Errors
    /// As [`Channel::fill`].
    pub fn skip(&mut self, mut len: u64) -> Result<(), ConnectionError> {
        while len > 0 {
            // Not byte by byte: each step has an idle timeout of its own.
            self.fill(len.min(MAX_SKIP) as usize)?;
            let here = self.read_buffer.bytes().len();
            let step = usize::try_from(len).map_or(here, |len| here.min(len));
            self.read_buffer.consume(step);
            len -= step as u64;
        }
        Ok(())
    }

    /// Makes sure that `len` more bytes fit the write buffer without growing it, unless they alone are more than it holds.
    ///
    /// # Errors
    /// [`ConnectionError::Io`].
    pub fn reserve(&mut self, len: usize) -> Result<(), ConnectionError> {
        if self.write_buffer.fits(len) { Ok(()) } else { self.flush() }
    }

    /// Ends a reply, and sends what is waiting if that is enough.
    ///
    /// # Errors
    /// [`ConnectionError::Io`].
    pub fn end_reply(&mut self) -> Result<(), ConnectionError> {
        self.write_buffer.count_reply();
        if self.write_buffer.replies() >= FLUSH_REPLIES || self.write_buffer.len() >= FLUSH_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Sends what is waiting.
    ///
    /// # Errors
    /// [`ConnectionError::Io`].
    pub fn flush(&mut self) -> Result<(), ConnectionError> {
        Ok(self.write_buffer.send(&mut self.writer)?)
    }

    /// Sends what is waiting, then a reply that lies elsewhere.
    ///
    /// # Errors
    /// [`ConnectionError::Io`].
    pub fn send_reply(&mut self, reply: &[u8]) -> Result<(), ConnectionError> {
        self.flush()?;
        Ok(send_batch(&mut self.writer, reply)?)
    }

    /// Returns whether the server is shutting down, as far as this connection has noticed.
    ///
    /// # Errors
    /// [`ConnectionError::Io`].
    pub fn notice_shutdown(&mut self) -> Result<bool, ConnectionError> {
        if self.before_shutdown.is_none() {
            self.before_shutdown =
                self.reader.backlog_at_shutdown()?.map(|waiting| self.bytes_received + waiting);
        }
        Ok(self.before_shutdown.is_some())
    }

    /// Returns why a request that takes long should end now, if it should. Does not wait.
    ///
    /// # Errors
    /// [`ConnectionError::Io`].
    pub fn cancellation(&mut self) -> Result<Option<Cancellation>, ConnectionError> {
        Ok(self.reader.cancellation()?)
    }

    /// Returns whether the server closes its connections.
    pub fn is_closing(&self) -> bool {
        self.reader.is_closing()
    }

    /// Whether the message that stands first came when a shutdown had been noticed.
    pub fn is_after_shutdown(&self) -> bool {
        let start = self.bytes_received - self.read_buffer.bytes().len() as u64;
        self.before_shutdown.is_some_and(|before| start >= before)
    }

    /// The idle timeout starts with the wait for a message, not again with each byte of it.
    fn start_wait(&mut self) {
        if let (None, Some(timeout)) = (self.deadline, self.idle_timeout) {
            let read = Instant::now().checked_add(timeout);
            self.reader.set_deadlines(Deadlines { read, write: None });
        }
    }
}
