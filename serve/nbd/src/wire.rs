//! The constants of the protocol, and pure functions that parse and write its messages.
//!
//! This module uses no socket and no device. Names follow the specification (`doc/proto.md` of the
//! NBD project) without the `NBD_` prefix. All integers are big-endian.

pub(crate) mod fields;
pub(crate) mod option;
pub(crate) mod request_error;
pub(crate) mod reply;
pub(crate) mod request;

/// First 8 bytes of the greeting.
pub(crate) const INIT_MAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
/// Magic number of the newstyle greeting and of each option.
pub(crate) const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");

/// Handshake flag, both directions: options can get error replies.
pub(crate) const FIXED_NEWSTYLE: u16 = 1 << 0;
/// Handshake flag, both directions: no 124 zero bytes after `OPT_EXPORT_NAME`.
pub(crate) const NO_ZEROES: u16 = 1 << 1;

/// Longest string that the protocol allows. Units: bytes.
pub(crate) const MAX_STRING: usize = 4096;
/// Longest payload of one read or write. Units: bytes.
pub(crate) const MAX_PAYLOAD: u32 = 32 << 20;

/// Name of the only supported metadata context.
pub(crate) const BASE_ALLOCATION: &str = "base:allocation";
/// Id of that context, chosen by the server.
pub(crate) const BASE_ALLOCATION_ID: u32 = 1;

/// The negotiated form of requests and replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Headers {
    /// Compact requests, simple replies.
    Simple,
    /// Compact requests, structured replies.
    Structured,
    /// Requests with 64-bit lengths, extended reply chunks.
    Extended,
}

impl Headers {
    /// Returns the length of a request header. Units: bytes.
    pub(crate) fn request_len(self) -> usize {
        if self == Self::Extended { 32 } else { 28 }
    }

    /// Returns whether replies consist of chunks.
    pub(crate) fn has_chunks(self) -> bool {
        self != Self::Simple
    }
}

/// Bits of the transmission flags.
pub(crate) mod transmission {
    pub(crate) const HAS_FLAGS: u16 = 1 << 0;
    pub(crate) const READ_ONLY: u16 = 1 << 1;
    pub(crate) const SEND_FLUSH: u16 = 1 << 2;
    pub(crate) const SEND_FUA: u16 = 1 << 3;
    pub(crate) const SEND_TRIM: u16 = 1 << 5;
    pub(crate) const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// The `DF` flag is supported; only with structured replies.
    pub(crate) const SEND_DF: u16 = 1 << 7;
    /// All connections see one coherent device.
    pub(crate) const CAN_MULTI_CONN: u16 = 1 << 8;
    pub(crate) const SEND_CACHE: u16 = 1 << 10;
    pub(crate) const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// Types of information in `REP_INFO`.
pub(crate) mod info {
    /// Size and transmission flags.
    pub(crate) const EXPORT: u16 = 0;
    pub(crate) const NAME: u16 = 1;
    pub(crate) const DESCRIPTION: u16 = 2;
    /// Minimum, preferred and maximum request sizes.
    pub(crate) const BLOCK_SIZE: u16 = 3;
}
