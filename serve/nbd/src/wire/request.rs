//! Requests of the transmission phase: parses 28 bytes, or 32 with extended headers, into a
//! [`Header`], and that into a [`Command`].
//!
//! The header holds the fields as received. The command holds their meaning on this connection
//! with a checked range: its execution checks no limit again.

use block::{BlockError, Bytes, Span, ZeroMode, ZeroSpeed};

use super::fields::Fields;
use super::request_error::RequestError;
use super::{Headers, MAX_PAYLOAD};

const REQUEST_MAGIC: u32 = 0x2560_9513;
const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;

/// Command numbers.
pub(crate) mod cmd {
    pub(crate) const READ: u16 = 0;
    pub(crate) const WRITE: u16 = 1;
    /// End the connection.
    pub(crate) const DISC: u16 = 2;
    pub(crate) const FLUSH: u16 = 3;
    pub(crate) const TRIM: u16 = 4;
    pub(crate) const CACHE: u16 = 5;
    pub(crate) const WRITE_ZEROES: u16 = 6;
    pub(crate) const BLOCK_STATUS: u16 = 7;
}

/// Command flags.
mod flag {
    /// Force unit access: reply when the change is durable. Valid on every command.
    pub(super) const FUA: u16 = 1 << 0;
    /// Zeros must stay allocated.
    pub(super) const NO_HOLE: u16 = 1 << 1;
    /// Do not fragment: reply with one content chunk.
    pub(super) const DF: u16 = 1 << 2;
    /// Reply with one extent.
    pub(super) const REQ_ONE: u16 = 1 << 3;
    /// Fail if zeroing is not faster than writing.
    pub(super) const FAST_ZERO: u16 = 1 << 4;
    /// The length is that of a payload that follows; only with extended headers.
    pub(super) const PAYLOAD_LEN: u16 = 1 << 5;
}

/// A request's header as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
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
pub(crate) enum ReadReplyKind {
    /// One simple reply: structured replies were not negotiated.
    Simple,
    /// Any number of data and hole chunks.
    Chunks,
    /// One data chunk (the DF flag).
    SingleChunk,
}

/// The time at which a change may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// When the change is done.
    Done,
    /// When the change is as durable as the device can make it (the FUA flag).
    Durable,
}

/// The number of extents that a block status reply may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExtentLimit {
    /// Exactly one.
    One,
    /// As many as fit.
    Many,
}

/// A request that is valid on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Read {
        span: Span,
        reply_kind: ReadReplyKind,
    },
    /// Write the payload to the span.
    Write {
        span: Span,
        durability: Durability,
    },
    WriteZeroes {
        span: Span,
        mode: ZeroMode,
        speed: ZeroSpeed,
        durability: Durability,
    },
    /// Discard the span's content.
    Trim {
        span: Span,
        durability: Durability,
    },
    /// Prefetch a range.
    Cache,
    /// Report the extents of the span, which is not empty.
    BlockStatus {
        span: Span,
        extents: ExtentLimit,
    },
    /// Make all completed writes durable.
    Flush,
    /// End the connection.
    Disconnect,
}

/// The limits that decide whether a request is valid on a connection: the device and what was
/// negotiated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestLimits {
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
    /// Parses the first [`Headers::request_len`] bytes of a request. Returns `None` if the magic
    /// number is wrong; [`Header::command`] checks all other fields.
    pub(crate) fn parse(bytes: &[u8], headers: Headers) -> Option<Self> {
        let is_extended = headers == Headers::Extended;
        let magic = if is_extended { EXTENDED_REQUEST_MAGIC } else { REQUEST_MAGIC };
        let mut fields = Fields(bytes);
        fields.u32().filter(|found| *found == magic)?;
        Some(Self {
            flags: fields.u16()?,
            kind: fields.u16()?,
            cookie: fields.u64()?,
            offset: fields.u64()?,
            len: if is_extended { fields.u64()? } else { fields.u32()?.into() },
        })
    }

    /// Returns the length of the payload that follows the header, whether the request is valid or
    /// not. Units: bytes.
    pub(crate) fn payload(&self, headers: Headers) -> u64 {
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
    pub(crate) fn exceeds_payload_limit(&self, headers: Headers) -> bool {
        headers == Headers::Extended && self.payload(headers) > MAX_PAYLOAD.into()
    }

    /// Checks the request and returns its meaning.
    ///
    /// # Errors
    /// The [`RequestError`] to reply with.
    #[inline]
    pub(crate) fn command(&self, limits: &RequestLimits) -> Result<Command, RequestError> {
        match self.kind {
            cmd::READ => self.read(limits),
            cmd::WRITE => self.write(limits),
            cmd::DISC => Ok(Command::Disconnect),
            cmd::FLUSH => self.flush(),
            cmd::TRIM => {
                self.check_change(0, limits)?;
                Ok(Command::Trim { span: self.span(limits)?, durability: self.durability() })
            }
            cmd::CACHE => {
                self.check_flags(0)?;
                self.span(limits).map(|_| Command::Cache)
            }
            cmd::WRITE_ZEROES => self.write_zeroes(limits),
            cmd::BLOCK_STATUS => self.block_status(limits),
            kind => Err(RequestError::UnknownCommand { kind }),
        }
    }

    fn read(&self, limits: &RequestLimits) -> Result<Command, RequestError> {
        let (has_chunks, len) = (limits.headers.has_chunks(), self.len);
        self.check_flags(if has_chunks { flag::DF } else { 0 })?;
        if len > MAX_PAYLOAD.into() {
            return Err(match has_chunks {
                true => RequestError::ReadTooLong { len },
                false => RequestError::PayloadTooLong { len },
            });
        }
        let reply_kind = match (has_chunks, self.has(flag::DF)) {
            (false, _) => ReadReplyKind::Simple,
            (true, false) => ReadReplyKind::Chunks,
            (true, true) => ReadReplyKind::SingleChunk,
        };
        Ok(Command::Read { span: self.span(limits)?, reply_kind })
    }

    fn write(&self, limits: &RequestLimits) -> Result<Command, RequestError> {
        let is_extended = limits.headers == Headers::Extended;
        self.check_change(if is_extended { flag::PAYLOAD_LEN } else { 0 }, limits)?;
        if is_extended && !self.has(flag::PAYLOAD_LEN) {
            return Err(RequestError::NoPayload);
        }
        if self.len > MAX_PAYLOAD.into() {
            return Err(RequestError::PayloadTooLong { len: self.len });
        }
        Ok(Command::Write { span: self.span(limits)?, durability: self.durability() })
    }

    fn write_zeroes(&self, limits: &RequestLimits) -> Result<Command, RequestError> {
        self.check_change(flag::NO_HOLE | flag::FAST_ZERO, limits)?;
        let keeps = self.has(flag::NO_HOLE);
        let is_fast = self.has(flag::FAST_ZERO);
        Ok(Command::WriteZeroes {
            span: self.span(limits)?,
            mode: if keeps { ZeroMode::KeepAllocated } else { ZeroMode::MayUnmap },
            speed: if is_fast { ZeroSpeed::FastOnly } else { ZeroSpeed::Any },
            durability: self.durability(),
        })
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
        let span = self.span(limits)?;
        if span.is_empty() {
            return Err(RequestError::EmptyStatus);
        }
        let extents = if self.has(flag::REQ_ONE) { ExtentLimit::One } else { ExtentLimit::Many };
        Ok(Command::BlockStatus { span, extents })
    }

    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Refuses any change of a read-only device, then flags that are not allowed.
    fn check_change(&self, allowed: u16, limits: &RequestLimits) -> Result<(), RequestError> {
        if limits.read_only {
            return Err(BlockError::ReadOnly.into());
        }
        self.check_flags(allowed)
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

    fn span(&self, limits: &RequestLimits) -> Result<Span, RequestError> {
        Span::new(self.offset, self.len, limits.size).map_err(|error| match self.kind {
            cmd::WRITE | cmd::WRITE_ZEROES => RequestError::PastEnd(error),
            _ => RequestError::OutOfRange(error),
        })
    }
}

#[cfg(test)]
mod tests;
