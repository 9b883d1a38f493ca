//! A checked byte range of a device.

use thiserror::Error;

/// A number of bytes: the size of a device or of a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

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

/// A byte range that lies inside the device for whose size it was created. Units: bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    offset: u64,
    len: u64,
}

impl Span {
    /// Checks that `offset..offset + len` lies inside a device of `size` bytes.
    ///
    /// # Errors
    /// [`OutOfRange`] when the end overflows or exceeds `size`. An empty range at the end is legal.
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
