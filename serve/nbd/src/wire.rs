//! The constants of the protocol, and pure functions that parse and write its messages.
//!
//! This module uses no socket and no device, so tests and fuzzers run all of it on byte strings.
//! Names follow the specification (`doc/proto.md` of the NBD project) without the `NBD_` prefix.
//! All integers are big-endian.

pub mod fields;
pub mod option;
pub mod request_error;
pub mod reply;
pub mod request;

/// First 8 bytes of the greeting.
pub const INIT_MAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
/// Magic number of the newstyle greeting and of each option.
pub const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
/// Magic number of each option reply.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// Magic number of each compact request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// Magic number of each simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// Magic number of each structured reply chunk.
pub const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Magic number of each extended request.
pub const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;
/// Magic number of each extended reply chunk.
pub const EXTENDED_REPLY_MAGIC: u32 = 0x6e8a_278c;

/// Handshake flag, both directions: options can get error replies.
pub const FIXED_NEWSTYLE: u16 = 1 << 0;
/// Handshake flag, both directions: no 124 zero bytes after `OPT_EXPORT_NAME`.
pub const NO_ZEROES: u16 = 1 << 1;

/// Longest string that the protocol allows. Units: bytes.
pub const MAX_STRING: usize = 4096;
/// Longest payload of one read or write. Units: bytes.
pub const MAX_PAYLOAD: u32 = 32 << 20;

/// The negotiated form of requests and replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Headers {
    /// Compact requests of 28 bytes, simple replies.
    #[default]
    Simple,
    /// Compact requests of 28 bytes, structured replies.
    Structured,
    /// Extended requests of 32 bytes with 64-bit lengths, extended reply chunks with headers of
    /// 32 bytes.
    Extended,
}

impl Headers {
    /// Returns the length of a request header. Units: bytes.
    #[must_use]
    pub fn request_len(self) -> usize {
        match self {
            Self::Simple | Self::Structured => 28,
            Self::Extended => 32,
        }
    }

    /// Returns the length of a reply chunk's header. Units: bytes.
    #[must_use]
    pub fn chunk_len(self) -> usize {
        match self {
            Self::Simple | Self::Structured => 20,
            Self::Extended => 32,
        }
    }

    /// Returns whether replies consist of chunks.
    #[must_use]
    pub fn has_chunks(self) -> bool {
        self != Self::Simple
    }
}

/// Bits of the transmission flags.
pub mod transmission {
    /// Always set.
    pub const HAS_FLAGS: u16 = 1 << 0;
    /// The export is read-only.
    pub const READ_ONLY: u16 = 1 << 1;
    /// `FLUSH` is supported.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// The `FUA` flag is supported.
    pub const SEND_FUA: u16 = 1 << 3;
    /// `TRIM` is supported.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// `WRITE_ZEROES` is supported.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// The `DF` flag is supported; only with structured replies.
    pub const SEND_DF: u16 = 1 << 7;
    /// All connections see one coherent device.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    /// `CACHE` is supported.
    pub const SEND_CACHE: u16 = 1 << 10;
    /// The `FAST_ZERO` flag is supported.
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// Types of option replies.
pub mod rep {
    /// The option is done.
    pub const ACK: u32 = 1;
    /// One export of the list.
    pub const SERVER: u32 = 2;
    /// One piece of information.
    pub const INFO: u32 = 3;
    /// One metadata context.
    pub const META_CONTEXT: u32 = 4;
    /// The option is not supported.
    pub const ERR_UNSUP: u32 = (1 << 31) + 1;
    /// The server's policy forbids the option.
    pub const ERR_POLICY: u32 = (1 << 31) + 2;
    /// The option's data are malformed.
    pub const ERR_INVALID: u32 = (1 << 31) + 3;
    /// There is no such export.
    pub const ERR_UNKNOWN: u32 = (1 << 31) + 6;
    /// The server is shutting down.
    pub const ERR_SHUTDOWN: u32 = (1 << 31) + 7;
    /// The option's data are too long.
    pub const ERR_TOO_BIG: u32 = (1 << 31) + 9;
    /// The option cannot be used with extended headers, or only with them.
    pub const ERR_EXT_HEADER_REQD: u32 = (1 << 31) + 10;
}

/// Types of information in `REP_INFO`.
pub mod info {
    /// Size and transmission flags.
    pub const EXPORT: u16 = 0;
    /// Canonical name.
    pub const NAME: u16 = 1;
    /// Description for people.
    pub const DESCRIPTION: u16 = 2;
    /// Minimum, preferred and maximum request sizes.
    pub const BLOCK_SIZE: u16 = 3;
}

/// Name of the only supported metadata context.
pub const BASE_ALLOCATION: &str = "base:allocation";
/// Id of that context, chosen by the server.
pub const BASE_ALLOCATION_ID: u32 = 1;
