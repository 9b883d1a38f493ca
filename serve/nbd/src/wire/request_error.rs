//! Errors of requests, and the only mapping from errors to the protocol's error numbers.

use block::{BlockError, OutOfRange};
use thiserror::Error;

/// An error number of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Errno {
    /// Not permitted: the device is read-only.
    Perm = 1,
    /// The device failed.
    Io = 5,
    /// The request is invalid.
    Inval = 22,
    /// The memory limit was reached, or a write goes past the end of the device.
    NoSpc = 28,
    /// The read is too long.
    Overflow = 75,
    /// Zeroing with `FAST_ZERO` would be slow.
    NotSup = 95,
    /// The server is shutting down.
    Shutdown = 108,
}

impl Errno {
    /// All error numbers, in the order of [`Errno::index`].
    pub const ALL: [Self; 7] = [
        Self::Perm,
        Self::Io,
        Self::Inval,
        Self::NoSpc,
        Self::Overflow,
        Self::NotSup,
        Self::Shutdown,
    ];

    /// Returns the number that is sent.
    #[must_use]
    pub fn number(self) -> u32 {
        self as u32
    }

    /// Returns the position in [`Errno::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Perm => 0,
            Self::Io => 1,
            Self::Inval => 2,
            Self::NoSpc => 3,
            Self::Overflow => 4,
            Self::NotSup => 5,
            Self::Shutdown => 6,
        }
    }
}

/// The reason why a request was refused or failed. Its text is sent to the client if replies are
/// structured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The command is unknown.
    #[error("unknown command {kind}")]
    UnknownCommand {
        /// The command number.
        kind: u16,
    },
    /// Flags are set that the command does not allow or that were not negotiated.
    #[error("flags {flags:#06x} are not allowed on this command")]
    Flags {
        /// All flags of the request.
        flags: u16,
    },
    /// The range goes past the end of the device. For requests that store no data.
    #[error(transparent)]
    OutOfRange(OutOfRange),
    /// The range goes past the end of the device. For requests that store data or zeros.
    #[error(transparent)]
    PastEnd(OutOfRange),
    /// A read in chunks is longer than [`MAX_PAYLOAD`](super::MAX_PAYLOAD).
    #[error("the read has {len} bytes; at most 32 MiB are allowed")]
    ReadTooLong {
        /// The read's length. Units: bytes.
        len: u64,
    },
    /// The payload of a write or of a simple reply is longer than
    /// [`MAX_PAYLOAD`](super::MAX_PAYLOAD).
    #[error("the payload has {len} bytes; at most 32 MiB are allowed")]
    PayloadTooLong {
        /// The payload's length. Units: bytes.
        len: u64,
    },
    /// The extended header of a write lacks the `PAYLOAD_LEN` flag.
    #[error("a write needs the flag PAYLOAD_LEN with extended headers")]
    NoPayload,
    /// A `FLUSH` has an offset or a length.
    #[error("flush allows no offset and no length")]
    FlushRange,
    /// A `BLOCK_STATUS` needs a metadata context, and none was negotiated.
    #[error("block status needs a metadata context, and none was negotiated")]
    NoContext,
    /// A `BLOCK_STATUS` has an empty range, so that its reply could hold no extent.
    #[error("block status needs a range of at least one byte")]
    EmptyStatus,
    /// The request arrived during a shutdown.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The device refused the request or failed.
    #[error(transparent)]
    Device(#[from] BlockError),
}

impl RequestError {
    /// Returns the error number of the reply. This is the only mapping of errors to numbers.
    #[must_use]
    pub fn errno(&self) -> Errno {
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
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
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
    fn index_is_the_position_in_all() {
        for (position, errno) in Errno::ALL.into_iter().enumerate() {
            assert_eq!(errno.index(), position);
        }
    }

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
