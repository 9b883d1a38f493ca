//! Replies of the transmission phase: the fixed parts that stand before data.

use super::request_error::Errno;
use super::{EXTENDED_REPLY_MAGIC, Headers, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC};
use std::ops::Deref;

/// Length of a simple reply without data. Units: bytes.
pub const SIMPLE_LEN: usize = 16;
/// Length of what stands before the bytes in the payload of a data chunk. Units: bytes.
pub const DATA_PREFIX_LEN: usize = 8;
/// Length of the payload of a hole chunk. Units: bytes.
pub const HOLE_PAYLOAD_LEN: usize = 12;

/// The longest fixed part: an extended head and a hole.
const MAX_HEAD: usize = 32 + HOLE_PAYLOAD_LEN;

/// The request that is answered, as far as a reply repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// The form of replies on this connection.
    pub headers: Headers,
    /// The client's name for the request.
    pub cookie: u64,
    /// Where the request begins. Units: bytes.
    pub offset: u64,
}

/// Whether a chunk is the last of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkPosition {
    /// More follow.
    NotLast,
    /// The reply ends here.
    Last,
}

/// What a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ChunkKind {
    /// Nothing.
    None = 0,
    /// An offset, then bytes.
    OffsetData = 1,
    /// An offset and a length of zeros.
    OffsetHole = 2,
    /// A context, then extents with 32-bit lengths.
    BlockStatus = 5,
    /// A context, a count, then extents with 64-bit lengths.
    BlockStatusExt = 6,
    /// An error number and a text.
    Error = (1 << 15) + 1,
    /// An error number, a text and an offset.
    ErrorOffset = (1 << 15) + 2,
}

/// The fixed part of a chunk, ready to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    bytes: [u8; MAX_HEAD],
    len: usize,
}

impl Head {
    fn new() -> Self {
        Self { bytes: [0; MAX_HEAD], len: 0 }
    }

    /// Adds a field. No head is longer than `MAX_HEAD`.
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

/// A simple reply: `None` is success.
#[must_use]
pub fn simple(cookie: u64, errno: Option<Errno>) -> [u8; SIMPLE_LEN] {
    let mut bytes = [0; SIMPLE_LEN];
    bytes[..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
    bytes[4..8].copy_from_slice(&errno.map_or(0, Errno::number).to_be_bytes());
    bytes[8..].copy_from_slice(&cookie.to_be_bytes());
    bytes
}

/// The head of a chunk with `len` bytes of payload.
#[must_use]
pub fn chunk(to: ReplyTo, kind: ChunkKind, position: ChunkPosition, len: u32) -> Head {
    let flags = u16::from(position == ChunkPosition::Last);
    let start = |magic: u32| {
        Head::new()
            .with(magic.to_be_bytes())
            .with(flags.to_be_bytes())
            .with((kind as u16).to_be_bytes())
            .with(to.cookie.to_be_bytes())
    };
    match to.headers {
        Headers::Simple | Headers::Structured => {
            start(STRUCTURED_REPLY_MAGIC).with(len.to_be_bytes())
        }
        Headers::Extended => start(EXTENDED_REPLY_MAGIC)
            .with(to.offset.to_be_bytes())
            .with(u64::from(len).to_be_bytes()),
    }
}

/// The head of a data chunk; `len` bytes of data follow.
#[must_use]
pub fn data_head(to: ReplyTo, position: ChunkPosition, offset: u64, len: u32) -> Head {
    chunk(to, ChunkKind::OffsetData, position, len + DATA_PREFIX_LEN as u32)
        .with(offset.to_be_bytes())
}

/// A hole chunk.
#[must_use]
pub fn hole(to: ReplyTo, position: ChunkPosition, offset: u64, len: u32) -> Head {
    chunk(to, ChunkKind::OffsetHole, position, HOLE_PAYLOAD_LEN as u32)
        .with(offset.to_be_bytes())
        .with(len.to_be_bytes())
}
