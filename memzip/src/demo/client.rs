//! The demo's connection: a window of requests in flight.
//!
//! One thread suffices: the window bounds the requests in flight such that a send never waits for a
//! reply that is not being read. Replies to writes and trims have 16 bytes and read requests have
//! 28, so a window of them always fits a socket buffer.

use std::path::Path;

use anyhow::{Result, ensure};
use nbd_client::{Command, Request, Target};

/// Maximum number of requests in flight on one connection.
const MAX_IN_FLIGHT: usize = 32;
/// Longest request. A window of such writes is less than a server must accept. Units: bytes.
pub(crate) const MAX_REQUEST: usize = 128 << 10;

/// Called with the offset and the bytes of each read, in the order of the replies.
type Arrived<'a> = &'a mut dyn FnMut(u64, &[u8]);

/// One connection to an export.
#[derive(Debug)]
pub(crate) struct Connection(nbd_client::Connection<()>);

impl Connection {
    /// Connects to the export with the empty name.
    ///
    /// # Errors
    /// No server answers, the handshake fails, or the export does not support trim.
    pub(crate) fn open(socket: &Path) -> Result<Self> {
        let connection = nbd_client::Connection::open(&Target::Unix(socket.to_owned()))?;
        ensure!(connection.export().supports_trim(), "the server does not support trim requests");
        Ok(Self(connection))
    }

    /// Returns the size of the export. Units: bytes.
    pub(crate) fn size(&self) -> u64 {
        self.0.export().size
    }

    /// Sends a write; may receive replies of earlier requests.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        self.queue(Command::Write, offset, data.len(), &mut |_, _| {})?;
        Ok(self.0.send(|_, ()| [data])?)
    }

    /// Queues a read or a trim; may receive replies of earlier requests. `arrived` is called with
    /// this and earlier reads.
    pub(crate) fn queue(
        &mut self,
        command: Command,
        offset: u64,
        len: usize,
        arrived: Arrived<'_>,
    ) -> Result<()> {
        ensure!(len <= MAX_REQUEST, "a request of {len} bytes is longer than {MAX_REQUEST}");
        self.receive_until(MAX_IN_FLIGHT - 1, arrived)?;
        self.0.queue(Request { command, offset, len: len as u32 }, ());
        Ok(())
    }

    /// Waits until every queued request is answered.
    pub(crate) fn drain(&mut self, arrived: Arrived<'_>) -> Result<()> {
        self.receive_until(0, arrived)
    }

    /// Receives replies until at most `depth` requests are in flight.
    fn receive_until(&mut self, depth: usize, arrived: Arrived<'_>) -> Result<()> {
        while self.0.depth() > depth {
            // Reads and trims may be queued; a write has been sent with its data.
            self.0.send(|_, ()| [])?;
            self.0.receive()?;
            while let Some(reply) = self.0.next_reply()? {
                if reply.request.command == Command::Read {
                    arrived(reply.request.offset, reply.data);
                }
            }
        }
        Ok(())
    }
}
