//! The block device interface between servers, which call it, and stores, which implement it.
//!
//! All units are bytes; requests may have any offset and length. [`Span::new`] checks each once.
//!
//! ```
//! use block::{Span, Bytes};
//! let size = Bytes(4096);
//! assert_eq!(Span::new(512, 512, size).unwrap().end(), 1024);
//! assert!(Span::new(4096, 1, size).is_err());
//! assert!(Span::new(u64::MAX, 2, size).is_err());
//! ```

#![forbid(unsafe_code)]

mod span;
mod device;

pub use device::{
    AllocationState, BlockDevice, BlockError, BlockSizes, StatusExtent, ZeroMode, ZeroSpeed,
};
pub use span::{Bytes, OutOfRange, Span};
