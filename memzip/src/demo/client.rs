//! A small NBD client: one connection, many requests in flight, simple replies.
//!
//! It is written from the specification and shares no code with the server, so that the two check
//! each other. One thread suffices: the window bounds the requests in flight such that a send never
//! waits for a reply that is not being read. Replies to writes and trims have 16 bytes and read
//! requests have 28, so a window of them always fits a socket buffer.

use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// Fixed newstyle and no zeroes after the export: the same two bits in both directions.
const HANDSHAKE_FLAGS: u16 = 0b11;
const OPT_GO: u32 = 7;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const INFO_EXPORT: [u8; 2] = [0, 0];
const FLAG_SEND_TRIM: u16 = 1 << 5;

/// Maximum number of requests in flight on one connection.
const MAX_IN_FLIGHT: usize = 32;
/// Longest request. A window of such writes is less than a server must accept. Units: bytes.
pub(crate) const MAX_REQUEST: usize = 128 << 10;
/// Size at which collected requests are sent. Units: bytes.
const MAX_BATCH_LEN: usize = 256 << 10;

/// Command of a request, with its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Read = 0,
    Write = 1,
    Disconnect = 2,
    Trim = 4,
}

/// A request that waits for its reply.
#[derive(Clone, Copy, Debug)]
struct Pending {
    command: Command,
    offset: u64,
    len: usize,
}

/// Called with the offset and the bytes of each read, in the order of the replies.
type Arrived<'a> = &'a mut dyn FnMut(u64, &[u8]);

/// One connection to an export.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    replies: BufReader<UnixStream>,
    batch: Vec<u8>,
    pending: [Option<Pending>; MAX_IN_FLIGHT],
    data: Vec<u8>,
    /// Size of the export. Units: bytes.
    pub(crate) size: u64,
}

impl Connection {
    /// Connects to the export with the empty name.
    ///
    /// # Errors
    /// No server answers, the handshake fails, or the export does not support trim.
    pub(crate) fn open(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("cannot connect to {}", socket.display()))?;
        let replies = stream.try_clone().context("cannot share the connection")?;
        let mut connection = Self {
            stream,
            replies: BufReader::with_capacity(MAX_BATCH_LEN, replies),
            batch: Vec::with_capacity(MAX_BATCH_LEN + MAX_REQUEST + 64),
            pending: [None; MAX_IN_FLIGHT],
            data: vec![0; MAX_REQUEST],
            size: 0,
        };
        connection.size = connection.handshake().context("the NBD handshake failed")?;
        Ok(connection)
    }

    fn handshake(&mut self) -> Result<u64> {
        ensure!(
            self.u64()? == NBD_MAGIC && self.u64()? == OPTION_MAGIC,
            "the peer is not a newstyle NBD server"
        );
        ensure!(
            self.u16()? & HANDSHAKE_FLAGS == HANDSHAKE_FLAGS,
            "the server does not support fixed newstyle and NBD_FLAG_NO_ZEROES"
        );
        let mut hello = u32::from(HANDSHAKE_FLAGS).to_be_bytes().to_vec();
        hello.extend(OPTION_MAGIC.to_be_bytes());
        hello.extend(OPT_GO.to_be_bytes());
        // Option data: an empty name (4 bytes of length) and no information requests (2 bytes).
        hello.extend(6u32.to_be_bytes());
        hello.extend([0; 6]);
        self.stream.write_all(&hello)?;
        self.export()
    }

    fn export(&mut self) -> Result<u64> {
        let mut export = None;
        loop {
            ensure!(
                self.u64()? == REPLY_MAGIC && self.u32()? == OPT_GO,
                "the answer to NBD_OPT_GO is malformed"
            );
            let (kind, len) = (self.u32()?, self.u32()?);
            ensure!(len <= 4096, "the answer to NBD_OPT_GO has {len} bytes, more than 4096");
            let mut data = vec![0; len as usize];
            self.replies.read_exact(&mut data)?;
            // The server may send several information replies before the acknowledgement.
            match (kind, &data[..]) {
                (REP_ACK, _) => break,
                (REP_INFO, [t0, t1, size @ .., f0, f1]) if [*t0, *t1] == INFO_EXPORT => {
                    let size = size.try_into().context("the export information has a wrong length");
                    export = Some((u64::from_be_bytes(size?), u16::from_be_bytes([*f0, *f1])));
                }
                (REP_INFO, _) => {}
                (error, text) => bail!(
                    "the server refuses the export ({error:#x}): {}",
                    String::from_utf8_lossy(text)
                ),
            }
        }
        let (size, flags) = export.context("the server did not send the export's size")?;
        ensure!(flags & FLAG_SEND_TRIM != 0, "the server does not support trim requests");
        Ok(size)
    }

    /// Queues a write; may receive replies of earlier requests.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        self.submit(
            Pending { command: Command::Write, offset, len: data.len() },
            data,
            &mut |_, _| {},
        )
    }

    /// Queues a trim; may receive replies of earlier requests.
    pub(crate) fn trim(&mut self, offset: u64, len: usize) -> Result<()> {
        self.submit(Pending { command: Command::Trim, offset, len }, &[], &mut |_, _| {})
    }

    /// Queues a read. `arrived` is called with this and earlier reads.
    pub(crate) fn read(&mut self, offset: u64, len: usize, arrived: Arrived<'_>) -> Result<()> {
        self.submit(Pending { command: Command::Read, offset, len }, &[], arrived)
    }

    /// Waits until every queued request is answered.
    pub(crate) fn drain(&mut self, arrived: Arrived<'_>) -> Result<()> {
        while self.pending.iter().any(Option::is_some) {
            self.receive(arrived)?;
        }
        Ok(())
    }

    /// Waits for all replies and sends NBD_CMD_DISC.
    pub(crate) fn close(mut self) -> Result<()> {
        self.drain(&mut |_, _| {})?;
        self.request(Command::Disconnect, 0, 0, 0);
        self.send()
    }

    fn submit(&mut self, pending: Pending, payload: &[u8], arrived: Arrived<'_>) -> Result<()> {
        let len = pending.len;
        ensure!(len <= MAX_REQUEST, "a request of {len} bytes is longer than {MAX_REQUEST}");
        // Wait for a free slot of the window; its index is the cookie.
        let slot = loop {
            match self.pending.iter().position(Option::is_none) {
                Some(slot) => break slot,
                None => self.receive(arrived)?,
            }
        };
        // The length is at most `MAX_REQUEST`.
        self.request(pending.command, slot as u64, pending.offset, len as u32);
        self.batch.extend_from_slice(payload);
        self.pending[slot] = Some(pending);
        // Send only large batches: `receive` sends the rest before it waits.
        if self.batch.len() >= MAX_BATCH_LEN { self.send() } else { Ok(()) }
    }

    fn request(&mut self, command: Command, cookie: u64, offset: u64, len: u32) {
        self.batch.extend(REQUEST_MAGIC.to_be_bytes());
        self.batch.extend(0u16.to_be_bytes());
        self.batch.extend((command as u16).to_be_bytes());
        self.batch.extend(cookie.to_be_bytes());
        self.batch.extend(offset.to_be_bytes());
        self.batch.extend(len.to_be_bytes());
    }

    fn send(&mut self) -> Result<()> {
        self.stream.write_all(&self.batch).context("cannot send to the server")?;
        self.batch.clear();
        Ok(())
    }

    /// Receives one reply.
    fn receive(&mut self, arrived: Arrived<'_>) -> Result<()> {
        self.send()?;
        ensure!(self.u32()? == SIMPLE_REPLY_MAGIC, "a reply is malformed");
        let (error, cookie) = (self.u32()?, self.u64()?);
        // Match the reply to its request by the cookie.
        let slot = usize::try_from(cookie).ok().and_then(|slot| self.pending.get_mut(slot));
        let request =
            slot.and_then(Option::take).context("a reply to a request that was never sent")?;
        if error != 0 {
            let cause = std::io::Error::from_raw_os_error(i32::try_from(error).unwrap_or(i32::MAX));
            return Err(cause).with_context(|| {
                format!("{:?} of {} bytes at {}", request.command, request.len, request.offset)
            });
        }
        if request.command == Command::Read {
            let data = &mut self.data[..request.len];
            self.replies.read_exact(data).context("the server closed the connection")?;
            arrived(request.offset, data);
        }
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.replies.read_exact(&mut bytes).context("the server closed the connection")?;
        Ok(bytes)
    }

    fn u16(&mut self) -> Result<u16> {
        self.bytes().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.bytes().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.bytes().map(u64::from_be_bytes)
    }
}
