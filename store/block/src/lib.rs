//! The block device interface: what servers speak to and stores implement.
//!
//! Everything is counted in bytes; requests of any offset and length are legal. A request is checked once, by
//! [`Span::new`], and afterwards carried as a [`Span`] that is known to lie inside the device: *parsed before executed*.
//!
//! ```
//! use block::{Span, Bytes};
//! let size = Bytes(4096);
//! assert_eq!(Span::new(512, 512, size).unwrap().end(), 1024);
//! assert!(Span::new(4096, 1, size).is_err());
//! assert!(Span::new(u64::MAX, 2, size).is_err());
//! ```

#![forbid(unsafe_code)]

mod device;
mod error;
mod span;

pub use device::{AllocationState, BlockDevice, BlockSizes, StatusExtent, ZeroMode, ZeroSpeed};
pub use error::{BlockError, OutOfRange};
pub use span::{Bytes, Span};
