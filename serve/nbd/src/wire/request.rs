//! Requests of the transmission phase: parses 28 bytes, or 32 with extended headers, into a
//! [`Header`], and that into a [`Command`].
//!
//! The header holds the fields as received. The command holds their meaning on this connection
//! with a checked range: its execution checks no limit again.

use block::{BlockError, Bytes, OutOfRange, Span, ZeroMode, ZeroSpeed};
use thiserror::Error;

use super::fields::Fields;
use super::request_error::RequestError;
use super::{EXTENDED_REQUEST_MAGIC, Headers, MAX_PAYLOAD, REQUEST_MAGIC};

/// Command numbers.
pub mod cmd {
    /// Read bytes.
    pub const READ: u16 = 0;
    /// Write the bytes that follow.
    pub const WRITE: u16 = 1;
    /// End the connection.
    pub const DISC: u16 = 2;
    /// Make all completed writes durable.
    pub const FLUSH: u16 = 3;
    /// Discard content.
    pub const TRIM: u16 = 4;
    /// Prefetch content.
    pub const CACHE: u16 = 5;
    /// Write zeros.
    pub const WRITE_ZEROES: u16 = 6;
    /// Get the extents of a range.
    pub const BLOCK_STATUS: u16 = 7;
}

/// Command flags.
pub mod flag {
    /// Force unit access: reply when the change is durable. Valid on every command.
    pub const FUA: u16 = 1 << 0;
    /// Zeros must stay allocated.
    pub const NO_HOLE: u16 = 1 << 1;
    /// Do not fragment: reply with one content chunk.
    pub const DF: u16 = 1 << 2;
    /// Reply with one extent.
    pub const REQ_ONE: u16 = 1 << 3;
    /// Fail if zeroing is not faster than writing.
    pub const FAST_ZERO: u16 = 1 << 4;
    /// The length is that of a payload that follows; only with extended headers.
    pub const PAYLOAD_LEN: u16 = 1 << 5;
}

/// A request with a wrong magic number: the start of the next request is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("wrong request magic {found:#010x}")]
pub struct BadMagic {
    /// The number received.
    pub found: u32,
}

/// A request's header as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Command flags.
    pub flags: u16,
    /// Command number.
    pub kind: u16,
    /// The client's identifier of the request, which the reply repeats.
    pub cookie: u64,
    /// First byte of the range. Units: bytes.
    pub offset: u64,
    /// Length of the payload or of the range, see [`Header::payload`]. Units: bytes.
    pub len: u64,
}

/// The form of the reply to a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadReplyKind {
    /// One simple reply: structured replies were not negotiated.
    Simple,
    /// Any number of data and hole chunks.
    Chunks,
    /// One data chunk (the DF flag).
    SingleChunk,
}

/// The time at which a change may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When the change is done.
    Done,
    /// When the change is as durable as the device can make it (the FUA flag).
    Durable,
}

/// The number of extents that a block status reply may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentLimit {
    /// Exactly one.
    One,
    /// As many as fit.
    Many,
}

/// A request that is valid on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read the span.
    Read {
        /// The range.
        span: Span,
        /// The form of the reply.
        reply_kind: ReadReplyKind,
    },
    /// Write the payload to the span.
    Write {
        /// The range.
        span: Span,
        /// When to reply.
        durability: Durability,
    },
    /// Make the span read as zeros.
    WriteZeroes {
        /// The range.
        span: Span,
        /// Whether the range may become a hole.
        mode: ZeroMode,
        /// Whether to fail if zeroing is slow.
        speed: ZeroSpeed,
        /// When to reply.
        durability: Durability,
    },
    /// Discard the span's content.
    Trim {
        /// The range.
        span: Span,
        /// When to reply.
        durability: Durability,
    },
    /// Prefetch a range.
    Cache,
    /// Report the extents of the span.
    BlockStatus {
        /// The range, which is not empty.
        span: Span,
        /// How many extents to report.
        extents: ExtentLimit,
    },
    /// Make all completed writes durable.
    Flush,
    /// End the connection.
    Disconnect,
}

/// The limits that decide whether a request is valid.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Size of the device.
    pub size: Bytes,
    /// Whether the device is read-only.
    pub read_only: bool,
    /// The form of requests and replies.
    pub headers: Headers,
    /// Whether `base:allocation` was selected.
    pub allocation: bool,
}

impl Header {
    /// Parses a request's header.
    ///
    /// `bytes` should hold at least [`Headers::request_len`] bytes; missing bytes read as zeros.
    ///
    /// # Errors
    /// [`BadMagic`]. [`Header::command`] checks all other fields.
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

    /// Returns the length of the payload that follows the header, whether the request is valid or
    /// not. Units: bytes.
    #[must_use]
    pub fn payload(&self, headers: Headers) -> u64 {
        let follows = match headers {
            Headers::Simple | Headers::Structured => self.kind == cmd::WRITE,
            Headers::Extended => self.has(flag::PAYLOAD_LEN),
        };
        if follows { self.len } else { 0 }
    }

    /// Returns whether the payload is too long to be skipped, so that the connection must end.
    ///
    /// Only an extended header can announce a payload of up to 2^64 - 1 bytes. The client was
    /// told the maximum.
    #[must_use]
    pub fn exceeds_payload_limit(&self, headers: Headers) -> bool {
        headers == Headers::Extended && self.payload(headers) > MAX_PAYLOAD.into()
    }

    /// Checks the request and returns its meaning.
    ///
    /// # Errors
    /// The [`RequestError`] to reply with.
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

    /// Checks that only allowed flags are set. FUA is allowed on every command, as the protocol
    /// asks: some clients set it on commands that write nothing.
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

/// Refuses any change of a read-only device, before other checks.
fn check_writable(limits: &RequestLimits) -> Result<(), RequestError> {
    if limits.read_only { Err(RequestError::Device(BlockError::ReadOnly)) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
