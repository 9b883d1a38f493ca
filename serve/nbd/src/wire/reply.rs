//! Replies of the transmission phase: the headers in front of their data.

use std::ops::Deref;

use super::Headers;
use super::request_error::Errno;

const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;
const EXTENDED_REPLY_MAGIC: u32 = 0x6e8a_278c;

/// Length of a simple reply's header. Units: bytes.
pub(crate) const SIMPLE_LEN: usize = 16;
/// Length of the offset in front of the data in a data chunk's payload. Units: bytes.
const DATA_PREFIX_LEN: u32 = 8;
/// Length of a hole chunk's payload. Units: bytes.
const HOLE_PAYLOAD_LEN: u32 = 12;
/// Length of the longest [`Head`]: an extended header and a hole's payload. Units: bytes.
const MAX_HEAD: usize = 32 + HOLE_PAYLOAD_LEN as usize;

/// The parts of a request that its reply repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    /// The form of replies on this connection.
    pub headers: Headers,
    /// The client's identifier of the request.
    pub cookie: u64,
    /// First byte of the request's range. Units: bytes.
    pub offset: u64,
}

/// Whether a chunk is the last of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkPosition {
    /// More chunks follow.
    NotLast,
    /// The chunk ends the reply.
    Last,
}

/// The type of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum ChunkKind {
    /// No payload.
    None = 0,
    /// An offset, then data.
    OffsetData = 1,
    /// An offset and the length of a hole.
    OffsetHole = 2,
    /// A context id, then extents with 32-bit lengths.
    BlockStatus = 5,
    /// A context id, a count, then extents with 64-bit lengths.
    BlockStatusExt = 6,
    /// An error number and a message.
    Error = (1 << 15) + 1,
    /// An error number, a message and an offset.
    ErrorOffset = (1 << 15) + 2,
}

/// A chunk's header, with the part of its payload that has a fixed length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    bytes: [u8; MAX_HEAD],
    len: usize,
}

impl Head {
    fn new() -> Self {
        Self { bytes: [0; MAX_HEAD], len: 0 }
    }

    /// Appends a field. No head is longer than `MAX_HEAD`.
    fn with<const N: usize>(mut self, field: [u8; N]) -> Self {
        self.bytes[self.len..self.len + N].copy_from_slice(&field);
        self.len += N;
        self
    }
}

impl Deref for Head {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Returns the header of a simple reply; `None` means success.
pub(crate) fn simple(cookie: u64, errno: Option<Errno>) -> Head {
    Head::new()
        .with(SIMPLE_REPLY_MAGIC.to_be_bytes())
        .with(errno.map_or(0, Errno::number).to_be_bytes())
        .with(cookie.to_be_bytes())
}

/// Returns the header of a chunk with `len` bytes of payload.
pub(crate) fn chunk(to: ReplyTo, kind: ChunkKind, position: ChunkPosition, len: u32) -> Head {
    let is_extended = to.headers == Headers::Extended;
    let magic = if is_extended { EXTENDED_REPLY_MAGIC } else { STRUCTURED_REPLY_MAGIC };
    let head = Head::new()
        .with(magic.to_be_bytes())
        .with(u16::from(position == ChunkPosition::Last).to_be_bytes())
        .with((kind as u16).to_be_bytes())
        .with(to.cookie.to_be_bytes());
    if is_extended {
        head.with(to.offset.to_be_bytes()).with(u64::from(len).to_be_bytes())
    } else {
        head.with(len.to_be_bytes())
    }
}

/// Returns the header of a data chunk, to be followed by `len` bytes of data from `offset` on.
pub(crate) fn data_head(to: ReplyTo, position: ChunkPosition, offset: u64, len: u32) -> Head {
    chunk(to, ChunkKind::OffsetData, position, len + DATA_PREFIX_LEN).with(offset.to_be_bytes())
}

/// Returns a whole hole chunk of `len` bytes from `offset` on.
pub(crate) fn hole(to: ReplyTo, position: ChunkPosition, offset: u64, len: u32) -> Head {
    chunk(to, ChunkKind::OffsetHole, position, HOLE_PAYLOAD_LEN)
        .with(offset.to_be_bytes())
        .with(len.to_be_bytes())
}
