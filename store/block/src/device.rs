//! The trait.

use crate::{BlockError, Bytes, Span};

/// What a run of bytes holds, as block status tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocationState {
    /// Bytes that must be read to be known.
    Data,
    /// Reads as zeros and takes no memory, whether they were written or never were.
    Hole,
    /// Reads as zeros, and room for other content is reserved.
    Zero,
}

/// A run of equal [`AllocationState`] in a block status answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusExtent {
    /// Units: bytes, never 0.
    pub len: u64,
    /// What it holds.
    pub content: AllocationState,
}

/// How zeros may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroMode {
    /// The range may become a hole.
    MayUnmap,
    /// Room for the range is reserved: the next write to each page finds it, whatever it writes.
    KeepAllocated,
}

/// Whether zeros may be stored in a way that takes as long as writing them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroSpeed {
    /// Any way will do.
    Any,
    /// Refuse rather than be as slow as a write of the same bytes.
    FastOnly,
}

/// Sizes a client should know. Units: bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    /// Smallest request that works.
    pub minimum: u32,
    /// Smallest request that does not read, merge and write.
    pub preferred: u32,
}

/// A device of bytes. All calls may come from many threads at once.
///
/// A read that overlaps a concurrent write sees, for each page, the old content or the new one, never a mix.
/// What a completed write stored is seen by every later read on any thread, so `flush` has nothing left to do for a device in memory.
pub trait BlockDevice: Send + Sync {
    /// Size in bytes; constant while served.
    fn size(&self) -> Bytes;

    /// Request sizes that suit the device.
    fn block_sizes(&self) -> BlockSizes;

    /// Whether changes are refused with [`BlockError::ReadOnly`].
    fn is_read_only(&self) -> bool;

    /// Reads the span into `buf`. `buf.len()` equals `span.len()`.
    ///
    /// # Errors
    /// [`BlockError::Busy`] when a page cannot be reached just now, [`BlockError::Damaged`] when one cannot be decoded; `buf` is then undefined but holds nothing foreign.
    fn read(&self, span: Span, buf: &mut [u8]) -> Result<(), BlockError>;

    /// Checks that the span can be read, as SCSI's VERIFY does. It counts as no read, and a cache of the
    /// device learns nothing from it.
    ///
    /// # Errors
    /// Those of [`BlockDevice::read`].
    fn verify(&self, span: Span) -> Result<(), BlockError>;

    /// Writes `buf` to the span. `buf.len()` equals `span.len()`.
    ///
    /// # Errors
    /// [`BlockError::NoSpace`], [`BlockError::Codec`], [`BlockError::ReadOnly`]; the failing page keeps its old content.
    fn write(&self, span: Span, buf: &[u8]) -> Result<(), BlockError>;

    /// Returns when everything acknowledged before is as durable as it will be.
    ///
    /// # Errors
    /// Those of the device's backing, if it has one.
    fn flush(&self) -> Result<(), BlockError>;

    /// Gives the memory of the whole pages inside the span back; partial pages at its ends may be ignored.
    ///
    /// # Errors
    /// [`BlockError::ReadOnly`].
    fn discard(&self, span: Span) -> Result<(), BlockError>;

    /// Makes the span read as zeros, exactly.
    ///
    /// With [`ZeroMode::KeepAllocated`] room is reserved for all pages before any of them changes.
    ///
    /// # Errors
    /// As [`BlockDevice::write`]; [`BlockError::NotFast`] for [`ZeroSpeed::FastOnly`] when it takes more than
    /// dropping content, and nothing has changed then.
    fn write_zeroes(&self, span: Span, mode: ZeroMode, speed: ZeroSpeed) -> Result<(), BlockError>;

    /// Tells what the span holds, run by run from its start, until `visit` returns `false` or the span is covered.
    ///
    /// Neighbouring runs differ in content. The answer is a snapshot.
    fn status(&self, span: Span, visit: &mut dyn FnMut(StatusExtent) -> bool);
}
