//! The errors of a request.

use thiserror::Error;

/// A range that does not lie inside its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the range of {len} bytes at offset {offset} exceeds the device of {size} bytes")]
pub struct OutOfRange {
    /// The offset of the first byte requested.
    pub offset: u64,
    /// The number of bytes requested.
    pub len: u64,
    /// The size of the device in bytes.
    pub size: u64,
}

/// Why a request failed. The page that failed is unchanged; pages before it may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BlockError {
    /// The range lies outside the device.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    /// The device does not accept changes.
    #[error("the device is read-only")]
    ReadOnly,
    /// The memory limit is reached, even after compaction. The old content is intact.
    #[error("no memory is left for the page at byte {offset}")]
    NoSpace {
        /// The first byte of the page that did not fit.
        offset: u64,
    },
    /// A stored page is damaged or its codec rejects it. Other pages are not affected.
    #[error("the page at byte {offset} is damaged and cannot be read")]
    Damaged {
        /// The first byte of the page.
        offset: u64,
    },
    /// A stored page has as many readers as can be counted. The page is intact: retry later.
    #[error("the page at byte {offset} has too many concurrent readers; retry the request")]
    Busy {
        /// The first byte of the page.
        offset: u64,
    },
    /// The codec failed to compress the page; nothing was stored.
    #[error("the page at byte {offset} cannot be compressed")]
    Codec {
        /// The first byte of the page.
        offset: u64,
    },
    /// The client asked for zeros only if that is faster than writing them, and it is not.
    /// Nothing has changed.
    #[error("zeroing this range is not faster than writing zeros to it")]
    NotFast,
    /// The device's own metadata is damaged; every later call fails in the same way.
    #[error("the device is poisoned: its metadata is damaged")]
    Poisoned,
}
