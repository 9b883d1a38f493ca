//! A checked byte range of a device.

use crate::OutOfRange;

/// A number of bytes: the size of a device or of a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// A byte range that lies inside its device.
///
/// Units: bytes. Only [`Span::new`] makes one, for a device of the size it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    offset: u64,
    len: u64,
}

impl Span {
    /// Checks that `offset..offset + len` lies inside a device of `size` bytes.
    ///
    /// # Errors
    /// [`OutOfRange`] when the end overflows or lies past the device. An empty range at the very end is legal.
    pub fn new(offset: u64, len: u64, size: Bytes) -> Result<Self, OutOfRange> {
        match offset.checked_add(len) {
            Some(end) if end <= size.0 => Ok(Self { offset, len }),
            _ => Err(OutOfRange { offset, len, size: size.0 }),
        }
    }

    /// The first byte.
    #[must_use]
    pub fn offset(self) -> u64 {
        self.offset
    }

    /// How many bytes.
    #[must_use]
    pub fn len(self) -> u64 {
        self.len
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// One past the last byte.
    #[must_use]
    pub fn end(self) -> u64 {
        self.offset + self.len
    }
}
