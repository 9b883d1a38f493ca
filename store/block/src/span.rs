//! A checked byte range of a device.

use crate::OutOfRange;

/// A number of bytes: the size of a device or of a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// A byte range that lies inside its device. Units: bytes.
///
/// Only [`Span::new`] constructs one, for the device size it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    offset: u64,
    len: u64,
}

impl Span {
    /// Checks that `offset..offset + len` lies inside a device of `size` bytes.
    ///
    /// # Errors
    /// [`OutOfRange`] when the end overflows or exceeds `size`. An empty range at the end is
    /// legal.
    pub fn new(offset: u64, len: u64, size: Bytes) -> Result<Self, OutOfRange> {
        match offset.checked_add(len) {
            Some(end) if end <= size.0 => Ok(Self { offset, len }),
            _ => Err(OutOfRange { offset, len, size: size.0 }),
        }
    }

    /// Returns the offset of the first byte.
    #[must_use]
    pub fn offset(self) -> u64 {
        self.offset
    }

    /// Returns the number of bytes.
    #[must_use]
    pub fn len(self) -> u64 {
        self.len
    }

    /// Returns whether the range has no bytes.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Returns the offset one past the last byte.
    #[must_use]
    pub fn end(self) -> u64 {
        self.offset + self.len
    }
}
