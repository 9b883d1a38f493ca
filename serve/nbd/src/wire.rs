//! The numbers of the protocol and the pure functions that turn bytes into values and back.
//!
//! Nothing here reads a socket or touches a device, so all of it can be tested and fuzzed with plain byte strings.
//! Names follow the protocol text (`doc/proto.md` of the NBD project) without their `NBD_` prefix. All integers are big-endian.

pub mod fields;
pub mod option;
pub mod reply;
pub mod request;
pub mod request_error;

/// What the server says first.
pub const INIT_MAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
/// Opens the newstyle greeting and each option.
pub const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
/// Opens each option reply.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// Opens each request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// Opens each simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// Opens each chunk of a structured reply.
pub const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Opens each request with an extended header.
pub const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;
/// Opens each chunk of a reply with an extended header.
pub const EXTENDED_REPLY_MAGIC: u32 = 0x6e8a_278c;

/// Handshake flag, both directions: options can be answered with errors.
pub const FIXED_NEWSTYLE: u16 = 1 << 0;
/// Handshake flag, both directions: no 124 zero bytes after `OPT_EXPORT_NAME`.
pub const NO_ZEROES: u16 = 1 << 1;

/// Largest string the protocol allows. Units: bytes.
pub const MAX_STRING: usize = 4096;
/// Largest payload of one read or write. Units: bytes.
pub const MAX_PAYLOAD: u32 = 32 << 20;

/// The form of requests and replies that client and server agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Headers {
    /// Requests of 28 bytes, simple replies.
    #[default]
    Simple,
    /// Requests of 28 bytes, structured replies.
    Structured,
    /// Requests of 32 bytes with 64-bit lengths, replies in chunks with heads of 32 bytes.
    Extended,
}

impl Headers {
    /// Length of a request without its payload. Units: bytes.
    #[must_use]
    pub fn request_len(self) -> usize {
        match self {
            Self::Simple | Self::Structured => 28,
            Self::Extended => 32,
        }
    }

    /// Length of a chunk without payload. Units: bytes.
    #[must_use]
    pub fn chunk_len(self) -> usize {
        match self {
            Self::Simple | Self::Structured => 20,
            Self::Extended => 32,
        }
    }

    /// Whether replies are made of chunks.
    #[must_use]
    pub fn has_chunks(self) -> bool {
        self != Self::Simple
    }
}

/// Bits of the transmission flags.
pub mod transmission {
    /// Always set.
    pub const HAS_FLAGS: u16 = 1 << 0;
    /// Changes are refused.
    pub const READ_ONLY: u16 = 1 << 1;
    /// `FLUSH` works.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// The `FUA` flag works.
    pub const SEND_FUA: u16 = 1 << 3;
    /// `TRIM` works.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// `WRITE_ZEROES` works.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// The `DF` flag works; only with structured replies.
    pub const SEND_DF: u16 = 1 << 7;
    /// Several connections see one coherent device.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    /// `CACHE` works.
    pub const SEND_CACHE: u16 = 1 << 10;
    /// The `FAST_ZERO` flag works.
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// Kinds of option replies.
pub mod rep {
    /// Done.
    pub const ACK: u32 = 1;
    /// One export of the list.
    pub const SERVER: u32 = 2;
    /// One piece of information.
    pub const INFO: u32 = 3;
    /// One metadata context.
    pub const META_CONTEXT: u32 = 4;
    /// The option is not known.
    pub const ERR_UNSUP: u32 = (1 << 31) + 1;
    /// The server does not want to.
    pub const ERR_POLICY: u32 = (1 << 31) + 2;
    /// The option's data make no sense.
    pub const ERR_INVALID: u32 = (1 << 31) + 3;
    /// There is no such export.
    pub const ERR_UNKNOWN: u32 = (1 << 31) + 6;
    /// The server is about to end.
    pub const ERR_SHUTDOWN: u32 = (1 << 31) + 7;
    /// The option's data are too long.
    pub const ERR_TOO_BIG: u32 = (1 << 31) + 9;
    /// The option does not go with extended headers, or not without them.
    pub const ERR_EXT_HEADER_REQD: u32 = (1 << 31) + 10;
}

/// Kinds of information in `REP_INFO`.
pub mod info {
    /// Size and transmission flags.
    pub const EXPORT: u16 = 0;
    /// Canonical name.
    pub const NAME: u16 = 1;
    /// Text for people.
    pub const DESCRIPTION: u16 = 2;
    /// Minimum, preferred and maximum sizes.
    pub const BLOCK_SIZE: u16 = 3;
}

/// The one metadata context.
pub const BASE_ALLOCATION: &str = "base:allocation";
/// Its number, chosen by the server.
pub const BASE_ALLOCATION_ID: u32 = 1;
