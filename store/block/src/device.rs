//! The [`BlockDevice`] trait and the types of its answers.

use crate::{BlockError, Bytes, Span};

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

/// A device of bytes. All methods may be called from many threads at once.
///
/// A read that overlaps a concurrent write sees, for each page, the old content or the new one,
/// never a mix.
/// Every read that starts after a write has completed sees what it wrote, on any thread. So a
/// device in memory has nothing to do in `flush`.
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

    /// Returns when everything acknowledged before the call is as durable as the device can make
    /// it.
    ///
    /// # Errors
    /// The errors of the device's backing, if it has one.
    fn flush(&self) -> Result<(), BlockError>;

    /// Frees the memory of the whole pages inside the span. Partial pages at its ends may be
    /// ignored.
    ///
    /// # Errors
    /// [`BlockError::ReadOnly`].
    fn discard(&self, span: Span) -> Result<(), BlockError>;

    /// Makes exactly the bytes of the span read as zeros.
    ///
    /// With [`ZeroMode::KeepAllocated`] memory is reserved for all pages before any of them
    /// changes.
    ///
    /// # Errors
    /// The errors of [`BlockDevice::write`]; [`BlockError::NotFast`] when `speed` is
    /// [`ZeroSpeed::FastOnly`] and more than freeing content is needed. Nothing has changed then.
    fn write_zeroes(&self, span: Span, mode: ZeroMode, speed: ZeroSpeed) -> Result<(), BlockError>;

    /// Reports what the span holds to `visit`, run by run from its start, until `visit` returns
    /// `false` or the span is covered.
    ///
    /// Adjacent runs differ in content. The answer is a snapshot.
    fn status(&self, span: Span, visit: &mut dyn FnMut(StatusExtent) -> bool);
}
