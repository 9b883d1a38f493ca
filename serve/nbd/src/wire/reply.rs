//! Replies of the transmission phase: the fixed parts that stand before data.

use super::failure::Errno;
use super::{SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC};

/// Length of a simple reply without data. Units: bytes.
pub const SIMPLE_LEN: usize = 16;
/// Length of a chunk without payload. Units: bytes.
pub const CHUNK_LEN: usize = 20;
/// Length of a data chunk before its data. Units: bytes.
pub const DATA_HEAD_LEN: usize = CHUNK_LEN + 8;
/// Length of a hole chunk. Units: bytes.
pub const HOLE_LEN: usize = CHUNK_LEN + 12;

/// Whether a chunk is the last of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// More follow.
    Inner,
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
    /// A context, then extents.
    BlockStatus = 5,
    /// An error number and a text.
    Error = (1 << 15) + 1,
    /// An error number, a text and an offset.
    ErrorOffset = (1 << 15) + 2,
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
pub fn chunk(cookie: u64, kind: ChunkKind, place: Place, len: u32) -> [u8; CHUNK_LEN] {
    let mut bytes = [0; CHUNK_LEN];
    bytes[..4].copy_from_slice(&STRUCTURED_REPLY_MAGIC.to_be_bytes());
    bytes[4..6].copy_from_slice(&u16::from(place == Place::Last).to_be_bytes());
    bytes[6..8].copy_from_slice(&(kind as u16).to_be_bytes());
    bytes[8..16].copy_from_slice(&cookie.to_be_bytes());
    bytes[16..].copy_from_slice(&len.to_be_bytes());
    bytes
}

/// The head of a data chunk; `len` bytes of data follow.
#[must_use]
pub fn data_head(cookie: u64, place: Place, offset: u64, len: u32) -> [u8; DATA_HEAD_LEN] {
    let mut bytes = [0; DATA_HEAD_LEN];
    bytes[..CHUNK_LEN].copy_from_slice(&chunk(cookie, ChunkKind::OffsetData, place, len + 8));
    bytes[CHUNK_LEN..].copy_from_slice(&offset.to_be_bytes());
    bytes
}

/// A hole chunk.
#[must_use]
pub fn hole(cookie: u64, place: Place, offset: u64, len: u32) -> [u8; HOLE_LEN] {
    let mut bytes = [0; HOLE_LEN];
    bytes[..CHUNK_LEN].copy_from_slice(&chunk(cookie, ChunkKind::OffsetHole, place, 12));
    bytes[CHUNK_LEN..CHUNK_LEN + 8].copy_from_slice(&offset.to_be_bytes());
    bytes[CHUNK_LEN + 8..].copy_from_slice(&len.to_be_bytes());
    bytes
}
