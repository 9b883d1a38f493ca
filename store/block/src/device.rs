//! The [`BlockDevice`] trait, and the types of its requests and answers.

use thiserror::Error;

use crate::{Bytes, OutOfRange, Span};

/// The content of a run of bytes, as block status reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocationState {
    /// The bytes must be read to be known.
    Data,
    /// The bytes read as zeros and take no memory, whether they were written or not.
    Hole,
    /// The bytes read as zeros, and memory for other content is reserved.
    Zero,
}

/// A run of bytes of one [`AllocationState`] in a block status answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusExtent {
    /// The length of the run. Units: bytes, never 0.
    pub len: u64,
    /// The state of all its bytes.
    pub content: AllocationState,
}

/// How zeros may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroMode {
    /// The range may become a hole.
    MayUnmap,
    /// Memory for the range is reserved, so the next write to each page finds it.
    KeepAllocated,
}

/// The time that storing zeros may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroSpeed {
    /// As long as a write of the same bytes.
    Any,
    /// Less than a write of the same bytes; otherwise the request is refused.
    FastOnly,
}

/// The request sizes that a client should know. Units: bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    /// The smallest request that works.
    pub minimum: u32,
    /// The smallest request that needs no read-modify-write.
    pub preferred: u32,
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
    /// Zeroing is not faster than writing zeros, as the client required. Nothing has changed.
    #[error("zeroing this range is not faster than writing zeros to it")]
    NotFast,
    /// The device's own metadata is damaged; every later call fails in the same way.
    #[error("the device is poisoned: its metadata is damaged")]
    Poisoned,
}

/// A device of bytes. All methods may be called from many threads at once. A read that overlaps a
/// concurrent write sees, for each page, the old content or the new one, never a mix. Every read
/// that starts after a write has completed sees what it wrote.
pub trait BlockDevice: Send + Sync {
    /// Returns the size of the device. It is constant while the device is served.
    fn size(&self) -> Bytes;

    /// Returns the request sizes that suit the device.
    fn block_sizes(&self) -> BlockSizes;

    /// Returns whether changes are refused with [`BlockError::ReadOnly`].
    fn is_read_only(&self) -> bool;

    /// Reads the span into `buf`. `buf.len()` equals `span.len()`.
    ///
    /// # Errors
    /// [`BlockError::Busy`] when a page cannot be reached now, [`BlockError::Damaged`] when a
    /// page cannot be decoded. `buf` is unspecified then, but holds no other client's data.
    fn read(&self, span: Span, buf: &mut [u8]) -> Result<(), BlockError>;

    /// Checks that the span can be read, like SCSI's VERIFY. It does not count as a read and does
    /// not change what the device caches.
    ///
    /// # Errors
    /// The errors of [`BlockDevice::read`].
    fn verify(&self, span: Span) -> Result<(), BlockError>;

    /// Writes `buf` to the span. `buf.len()` equals `span.len()`.
    ///
    /// # Errors
    /// [`BlockError::NoSpace`], [`BlockError::Codec`], [`BlockError::ReadOnly`]; the page that
    /// failed keeps its old content.
    fn write(&self, span: Span, buf: &[u8]) -> Result<(), BlockError>;

    /// Returns when everything acknowledged before is as durable as the device can make it.
    ///
    /// # Errors
    /// The errors of the device's backing, if it has one.
    fn flush(&self) -> Result<(), BlockError>;

    /// Frees the memory of whole pages inside the span. Partial pages at its ends may be ignored.
    ///
    /// # Errors
    /// [`BlockError::ReadOnly`].
    fn discard(&self, span: Span) -> Result<(), BlockError>;

    /// Makes exactly the bytes of the span read as zeros. With [`ZeroMode::KeepAllocated`] memory
    /// is reserved for all pages before any of them changes.
    ///
    /// # Errors
    /// The errors of [`BlockDevice::write`]; [`BlockError::NotFast`] when `speed` is
    /// [`ZeroSpeed::FastOnly`] and more than freeing content is needed. Nothing has changed then.
    fn write_zeroes(&self, span: Span, mode: ZeroMode, speed: ZeroSpeed) -> Result<(), BlockError>;

    /// Reports what the span holds to `visit`, run by run from its start, until `visit` returns
    /// `false` or the span is covered. Adjacent runs differ in content. The answer is a snapshot.
    fn status(&self, span: Span, visit: &mut dyn FnMut(StatusExtent) -> bool);
}
