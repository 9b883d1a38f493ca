//! What can go wrong with a request.

use thiserror::Error;

/// A range that does not lie inside its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{len} bytes at {offset} do not fit a device of {size} bytes")]
pub struct OutOfRange {
    /// First byte asked for.
    pub offset: u64,
    /// Bytes asked for.
    pub len: u64,
    /// Size of the device in bytes.
    pub size: u64,
}

/// Why a request failed. The device is as it was before the failing page; pages before it may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BlockError {
    /// The range lies outside the device.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    /// The device does not accept changes.
    #[error("the device is read-only")]
    ReadOnly,
    /// The memory limit is reached, also after compaction. The old content is intact.
    #[error("no memory left for the page at byte {offset}")]
    NoSpace {
        /// Where the page that did not fit begins.
        offset: u64,
    },
    /// A stored page is damaged or its codec refuses it. Other pages are not affected.
    #[error("the page at byte {offset} cannot be read back")]
    Damaged {
        /// Where the page begins.
        offset: u64,
    },
    /// A stored page cannot be reached for all that are reading it. Nothing is wrong with it: a later request finds it.
    #[error("the page at byte {offset} is read by too many at once: try again")]
    Busy {
        /// Where the page begins.
        offset: u64,
    },
    /// The codec failed to compress; nothing was stored.
    #[error("the page at byte {offset} cannot be compressed")]
    Codec {
        /// Where the page begins.
        offset: u64,
    },
    /// Zeros were wanted only if that is faster than writing them, and it is not. Nothing has changed.
    #[error("zeroing this range is not faster than writing it")]
    NotFast,
    /// The device's own book-keeping is broken; every later call fails the same way.
    #[error("the device is out of order")]
    Poisoned,
}
