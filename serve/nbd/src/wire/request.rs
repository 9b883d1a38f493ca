//! Requests of the transmission phase: 28 bytes, or 32 with extended headers -> [`Header`] -> [`Command`].
//!
//! The header is what came; the command is what it means on this connection, with its range already checked.
//! A command can be executed without looking at a limit again.

use super::fields::Fields;
use super::request_error::RequestError;
use super::{EXTENDED_REQUEST_MAGIC, Headers, MAX_PAYLOAD, REQUEST_MAGIC};
use block::{BlockError, Bytes, OutOfRange, Span, ZeroMode, ZeroSpeed};
use thiserror::Error;

/// Command numbers.
pub mod cmd {
    /// Read bytes.
    pub const READ: u16 = 0;
    /// Write the bytes that follow.
    pub const WRITE: u16 = 1;
    /// End the connection.
    pub const DISC: u16 = 2;
    /// Make everything durable.
    pub const FLUSH: u16 = 3;
    /// Give up content.
    pub const TRIM: u16 = 4;
    /// Fetch ahead.
    pub const CACHE: u16 = 5;
    /// Write zeros.
    pub const WRITE_ZEROES: u16 = 6;
    /// Tell holes from data.
    pub const BLOCK_STATUS: u16 = 7;
}

/// Command flags.
pub mod flag {
    /// Answer when durable; legal on every command.
    pub const FUA: u16 = 1 << 0;
    /// Zeros shall stay allocated.
    pub const NO_HOLE: u16 = 1 << 1;
    /// One content chunk only.
    pub const DF: u16 = 1 << 2;
    /// One extent only.
    pub const REQ_ONE: u16 = 1 << 3;
    /// Fail rather than be slow.
    pub const FAST_ZERO: u16 = 1 << 4;
    /// The length is that of a payload which follows; with extended headers only.
    pub const PAYLOAD_LEN: u16 = 1 << 5;
}

/// The magic number of a request is wrong: where the next request begins is not known any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("request magic {found:#010x}")]
pub struct BadMagic {
    /// What stood there.
    pub found: u32,
}

/// A request as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Command flags.
    pub flags: u16,
    /// Command number.
    pub kind: u16,
    /// The client's name for the request, opaque.
    pub cookie: u64,
    /// Units: bytes.
    pub offset: u64,
    /// Of the payload that follows or of the range meant, see [`Header::payload`]. Units: bytes.
    pub len: u64,
}

/// Whether a read may be answered in several chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadReplyKind {
    /// One simple reply: structured replies were not agreed on.
    Simple,
    /// Any number of data and hole chunks.
    Chunks,
    /// One data chunk (the DF flag).
    SingleChunk,
}

/// When a change may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is done.
    Done,
    /// When it is as durable as it will be (the FUA flag).
    Durable,
}

/// How many extents a status answer may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentLimit {
    /// Exactly one.
    One,
    /// As many as fit.
    Many,
}

/// A request that is legal on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read the span.
    Read {
        /// Where.
        span: Span,
        /// How to answer.
        reply_kind: ReadReplyKind,
    },
    /// Write the payload to the span.
    Write {
        /// Where.
        span: Span,
        /// When to answer.
        durability: Durability,
    },
    /// Make the span read as zeros.
    WriteZeroes {
        /// Where.
        span: Span,
        /// Whether holes are welcome.
        mode: ZeroMode,
        /// Whether to refuse rather than be slow.
        speed: ZeroSpeed,
        /// When to answer.
        durability: Durability,
    },
    /// Give the span's content up.
    Trim {
        /// Where.
        span: Span,
        /// When to answer.
        durability: Durability,
    },
    /// The span will be read soon.
    Cache,
    /// Tell holes from data in the span.
    BlockStatus {
        /// Where, not empty.
        span: Span,
        /// How much to tell.
        extents: ExtentLimit,
    },
    /// Make everything durable.
    Flush,
    /// End the connection.
    Disconnect,
}

/// What decides whether a request is legal.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Size of the device.
    pub size: Bytes,
    /// Whether changes are refused.
    pub read_only: bool,
    /// The form of requests and replies.
    pub headers: Headers,
    /// Whether `base:allocation` was selected.
    pub allocation: bool,
}

impl Header {
    /// Reads a request's fixed part.
    ///
    /// `bytes` holds at least [`Headers::request_len`]; what is missing reads as zero.
    ///
    /// # Errors
    /// [`BadMagic`]; all other contents are checked by [`Header::command`].
    pub fn parse(bytes: &[u8], headers: Headers) -> Result<Self, BadMagic> {
        let magic = match headers {
            Headers::Simple | Headers::Structured => REQUEST_MAGIC,
            Headers::Extended => EXTENDED_REQUEST_MAGIC,
        };
        let mut fields = Fields::new(bytes);
        let found = fields.u32().unwrap_or_default();
        if found != magic {
            return Err(BadMagic { found });
        }
        Ok(Self {
            flags: fields.u16().unwrap_or_default(),
            kind: fields.u16().unwrap_or_default(),
            cookie: fields.u64().unwrap_or_default(),
            offset: fields.u64().unwrap_or_default(),
            len: match headers {
                Headers::Simple | Headers::Structured => {
                    fields.u32().map(u64::from).unwrap_or_default()
                }
                Headers::Extended => fields.u64().unwrap_or_default(),
            },
        })
    }

    /// Bytes that follow the header, whether the request is legal or not. Units: bytes.
    #[must_use]
    pub fn payload(&self, headers: Headers) -> u64 {
        let follows = match headers {
            Headers::Simple | Headers::Structured => self.kind == cmd::WRITE,
            Headers::Extended => self.has(flag::PAYLOAD_LEN),
        };
        if follows { self.len } else { 0 }
    }

    /// Whether more follows than the server is willing to receive only to forget it.
    ///
    /// With extended headers a client that was told the largest payload and exceeds it is not worth 2^64 bytes of patience.
    #[must_use]
    pub fn exceeds_payload_limit(&self, headers: Headers) -> bool {
        headers == Headers::Extended && self.payload(headers) > MAX_PAYLOAD.into()
    }

    /// What the request means.
    ///
    /// # Errors
    /// The [`RequestError`] to answer with.
    #[inline]
    pub fn command(&self, limits: &RequestLimits) -> Result<Command, RequestError> {
        match self.kind {
            cmd::READ => self.read(limits),
            cmd::WRITE => self.write(limits),
            cmd::DISC => Ok(Command::Disconnect),
            cmd::FLUSH => self.flush(),
            cmd::TRIM => self.trim(limits),
            cmd::CACHE => self.cache(limits),
            cmd::WRITE_ZEROES => self.write_zeroes(limits),
            cmd::BLOCK_STATUS => self.block_status(limits),
            kind => Err(RequestError::UnknownCommand { kind }),
        }
    }

    fn read(&self, limits: &RequestLimits) -> Result<Command, RequestError> {
        self.check_flags(if limits.headers.has_chunks() { flag::DF } else { 0 })?;
        if self.len > MAX_PAYLOAD.into() {
            return Err(match limits.headers.has_chunks() {
                true => RequestError::ReadTooLong { len: self.len },
                false => RequestError::PayloadTooLong { len: self.len },
            });
        }
        let reply_kind = match (limits.headers.has_chunks(), self.has(flag::DF)) {
            (false, _) => ReadReplyKind::Simple,
            (true, false) => ReadReplyKind::Chunks,
            (true, true) => ReadReplyKind::SingleChunk,
        };
        Ok(Command::Read { span: self.span(limits).map_err(RequestError::OutOfRange)?, reply_kind })
    }

    fn write(&self, limits: &RequestLimits) -> Result<Command, RequestError> {
        check_writable(limits)?;
        if limits.headers == Headers::Extended {
            self.check_flags(flag::PAYLOAD_LEN)?;
            self.has(flag::PAYLOAD_LEN).then_some(()).ok_or(RequestError::NoPayload)?;
        } else {
            self.check_flags(0)?;
        }
        if self.len > MAX_PAYLOAD.into() {
            return Err(RequestError::PayloadTooLong { len: self.len });
        }
        let span = self.span(limits).map_err(RequestError::PastEnd)?;
        Ok(Command::Write { span, durability: self.durability() })
    }

    fn write_zeroes(&self, limits: &RequestLimits) -> Result<Command, RequestError> {
        check_writable(limits)?;
        self.check_flags(flag::NO_HOLE | flag::FAST_ZERO)?;
        let span = self.span(limits).map_err(RequestError::PastEnd)?;
        let mode =
            if self.has(flag::NO_HOLE) { ZeroMode::KeepAllocated } else { ZeroMode::MayUnmap };
        let speed = if self.has(flag::FAST_ZERO) { ZeroSpeed::FastOnly } else { ZeroSpeed::Any };
        Ok(Command::WriteZeroes { span, mode, speed, durability: self.durability() })
    }

    fn trim(&self, limits: &RequestLimits) -> Result<Command, RequestError> {
        check_writable(limits)?;
        self.check_flags(0)?;
        let span = self.span(limits).map_err(RequestError::OutOfRange)?;
        Ok(Command::Trim { span, durability: self.durability() })
    }

    fn cache(&self, limits: &RequestLimits) -> Result<Command, RequestError> {
        self.check_flags(0)?;
        self.span(limits).map_err(RequestError::OutOfRange)?;
        Ok(Command::Cache)
    }

    fn flush(&self) -> Result<Command, RequestError> {
        self.check_flags(0)?;
        match (self.offset, self.len) {
            (0, 0) => Ok(Command::Flush),
            _ => Err(RequestError::FlushRange),
        }
    }

    fn block_status(&self, limits: &RequestLimits) -> Result<Command, RequestError> {
        self.check_flags(flag::REQ_ONE)?;
        if !limits.allocation {
            return Err(RequestError::NoContext);
        }
        let span = self.span(limits).map_err(RequestError::OutOfRange)?;
        if span.is_empty() {
            return Err(RequestError::EmptyStatus);
        }
        let extents = if self.has(flag::REQ_ONE) { ExtentLimit::One } else { ExtentLimit::Many };
        Ok(Command::BlockStatus { span, extents })
    }

    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Clients are known to set FUA on commands that write nothing; the protocol asks to bear it.
    fn check_flags(&self, allowed: u16) -> Result<(), RequestError> {
        match self.flags & !(allowed | flag::FUA) {
            0 => Ok(()),
            _ => Err(RequestError::Flags { flags: self.flags }),
        }
    }

    fn durability(&self) -> Durability {
        if self.has(flag::FUA) { Durability::Durable } else { Durability::Done }
    }

    fn span(&self, limits: &RequestLimits) -> Result<Span, OutOfRange> {
        Span::new(self.offset, self.len, limits.size)
    }
}

/// Refuses a request that would change a read-only device, whatever else is wrong with it.
fn check_writable(limits: &RequestLimits) -> Result<(), RequestError> {
    if limits.read_only { Err(RequestError::Device(BlockError::ReadOnly)) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
