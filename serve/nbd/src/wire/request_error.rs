//! Errors of requests, and the only mapping from errors to the protocol's error numbers.

use block::{BlockError, OutOfRange};
use thiserror::Error;

/// An error number of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errno {
    Perm,
    Io,
    Inval,
    NoSpc,
    Overflow,
    NotSup,
    Shutdown,
}

impl Errno {
    /// Number of error numbers.
    pub(crate) const COUNT: usize = Self::Shutdown as usize + 1;

    /// Returns the number that is sent.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Perm => 1,
            Self::Io => 5,
            Self::Inval => 22,
            Self::NoSpc => 28,
            Self::Overflow => 75,
            Self::NotSup => 95,
            Self::Shutdown => 108,
        }
    }
}

/// The reason why a request was refused or failed. Its text is sent to the client if replies are
/// structured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum RequestError {
    #[error("unknown command {kind}")]
    UnknownCommand { kind: u16 },
    /// Flags are set that the command does not allow or that were not negotiated.
    #[error("flags {flags:#06x} are not allowed on this command")]
    Flags { flags: u16 },
    /// The range goes past the end of the device. For requests that store no data.
    #[error(transparent)]
    OutOfRange(OutOfRange),
    /// The range goes past the end of the device. For requests that store data or zeros.
    #[error(transparent)]
    PastEnd(OutOfRange),
    /// A read in chunks is longer than [`MAX_PAYLOAD`](super::MAX_PAYLOAD).
    #[error("the read has {len} bytes; at most 32 MiB are allowed")]
    ReadTooLong { len: u64 },
    /// The payload of a write or of a simple reply is longer than
    /// [`MAX_PAYLOAD`](super::MAX_PAYLOAD).
    #[error("the payload has {len} bytes; at most 32 MiB are allowed")]
    PayloadTooLong { len: u64 },
    #[error("a write needs the flag PAYLOAD_LEN with extended headers")]
    NoPayload,
    #[error("flush allows no offset and no length")]
    FlushRange,
    #[error("block status needs a metadata context, and none was negotiated")]
    NoContext,
    /// The reply to a `BLOCK_STATUS` of an empty range could hold no extent.
    #[error("block status needs a range of at least one byte")]
    EmptyStatus,
    #[error("the server is shutting down")]
    ShuttingDown,
    #[error(transparent)]
    Device(#[from] BlockError),
}

impl RequestError {
    /// Returns the error number of the reply. This is the only mapping of errors to numbers.
    pub(crate) fn errno(&self) -> Errno {
        match self {
            Self::UnknownCommand { .. }
            | Self::Flags { .. }
            | Self::OutOfRange(_)
            | Self::PayloadTooLong { .. }
            | Self::NoPayload
            | Self::FlushRange
            | Self::NoContext
            | Self::EmptyStatus
            | Self::Device(BlockError::OutOfRange(_)) => Errno::Inval,
            Self::PastEnd(_) | Self::Device(BlockError::NoSpace { .. }) => Errno::NoSpc,
            Self::ReadTooLong { .. } => Errno::Overflow,
            Self::ShuttingDown => Errno::Shutdown,
            Self::Device(BlockError::ReadOnly) => Errno::Perm,
            Self::Device(BlockError::NotFast) => Errno::NotSup,
            // The protocol has no number for "try again"; the error's text asks for it.
            Self::Device(
                BlockError::Damaged { .. }
                | BlockError::Busy { .. }
                | BlockError::Codec { .. }
                | BlockError::Poisoned,
            ) => Errno::Io,
        }
    }

    /// Returns the device offset at which the request failed, if it is known.
    pub(crate) fn offset(&self) -> Option<u64> {
        match self {
            Self::Device(
                BlockError::Damaged { offset }
                | BlockError::Busy { offset }
                | BlockError::NoSpace { offset }
                | BlockError::Codec { offset },
            ) => Some(*offset),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_protocol_number() {
        let range = OutOfRange { offset: 8, len: 1, size: 8 };
        let table = [
            (RequestError::Device(BlockError::NoSpace { offset: 0 }), 28),
            (RequestError::Device(BlockError::Damaged { offset: 0 }), 5),
            (RequestError::Device(BlockError::Busy { offset: 0 }), 5),
            (RequestError::Device(BlockError::Codec { offset: 0 }), 5),
            (RequestError::Device(BlockError::Poisoned), 5),
            (RequestError::Device(BlockError::ReadOnly), 1),
            (RequestError::Device(BlockError::NotFast), 95),
            (RequestError::Device(BlockError::OutOfRange(range)), 22),
            (RequestError::OutOfRange(range), 22),
            (RequestError::PastEnd(range), 28),
            (RequestError::ReadTooLong { len: u64::MAX }, 75),
            (RequestError::PayloadTooLong { len: u64::MAX }, 22),
            (RequestError::ShuttingDown, 108),
        ];
        for (failure, number) in table {
            assert_eq!(failure.errno().number(), number, "{failure:?}");
        }
    }
}
