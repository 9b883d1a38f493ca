//! Why a request is answered with an error, and the one place that turns it into a number on the wire.

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
    /// The request makes no sense.
    Inval = 22,
    /// No room, or a write past the end.
    NoSpc = 28,
    /// A read longer than the server sends.
    Overflow = 75,
    /// Zeros that were wanted fast or not at all.
    NotSup = 95,
    /// The server is about to end.
    Shutdown = 108,
}

impl Errno {
    /// All of them, in the order of [`Errno::index`].
    pub const ALL: [Self; 7] = [
        Self::Perm,
        Self::Io,
        Self::Inval,
        Self::NoSpc,
        Self::Overflow,
        Self::NotSup,
        Self::Shutdown,
    ];

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u32 {
        self as u32
    }

    /// Position in [`Errno::ALL`].
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

/// Why a request was refused or failed. The text goes to the client where structured replies were agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// A command nobody defined.
    #[error("unknown command {kind}")]
    UnknownCommand {
        /// The number that came.
        kind: u16,
    },
    /// Flags that do not belong to the command or were not agreed on.
    #[error("flags {flags:#06x} do not fit the command")]
    Flags {
        /// All flags that came.
        flags: u16,
    },
    /// A range past the end, of a request that changes nothing or only gives up content.
    #[error(transparent)]
    OutOfRange(OutOfRange),
    /// A range past the end, of a request that stores.
    #[error(transparent)]
    PastEnd(OutOfRange),
    /// A read longer than [`MAX_PAYLOAD`](super::MAX_PAYLOAD), answered in chunks.
    #[error("a read of {len} bytes is longer than 32 MiB")]
    ReadTooLong {
        /// Bytes asked for.
        len: u64,
    },
    /// A payload longer than [`MAX_PAYLOAD`](super::MAX_PAYLOAD), to the server or in a simple reply.
    #[error("a payload of {len} bytes is longer than 32 MiB")]
    PayloadTooLong {
        /// Its length in bytes.
        len: u64,
    },
    /// A write whose extended header says that no payload follows.
    #[error("a write needs the flag that says its length is that of a payload")]
    NoPayload,
    /// `FLUSH` with an offset or a length.
    #[error("flush takes no offset and no length")]
    FlushRange,
    /// `BLOCK_STATUS` without a metadata context.
    #[error("no metadata context was selected")]
    NoContext,
    /// `BLOCK_STATUS` of nothing: there is no extent to answer with.
    #[error("block status of zero bytes")]
    EmptyStatus,
    /// The request came when the server was about to end.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The device refused or failed.
    #[error(transparent)]
    Device(#[from] BlockError),
}

impl RequestError {
    /// The number the client gets. This is the only place where errors become numbers.
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
            // The protocol has no "try again". A client that asked for structured replies is told so in words.
            Self::Device(
                BlockError::Damaged { .. }
                | BlockError::Busy { .. }
                | BlockError::Codec { .. }
                | BlockError::Poisoned,
            ) => Errno::Io,
        }
    }

    /// Where in the device it went wrong, if that is known.
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
    fn the_index_of_an_errno_is_its_place_in_all() {
        for (place, errno) in Errno::ALL.into_iter().enumerate() {
            assert_eq!(errno.index(), place);
        }
    }

    #[test]
    fn every_device_error_has_the_code_the_protocol_asks_for() {
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
