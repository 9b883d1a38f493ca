//! The block device interface between servers, which call it, and stores, which implement it.
//!
//! All units are bytes; requests of any offset and length are legal. [`Span::new`] checks a
//! request once. From then on it is a [`Span`], which is known to lie inside the device.
//!
//! ```
//! use block::{Span, Bytes};
//! let size = Bytes(4096);
//! assert_eq!(Span::new(512, 512, size).unwrap().end(), 1024);
//! assert!(Span::new(4096, 1, size).is_err());
//! assert!(Span::new(u64::MAX, 2, size).is_err());
//! ```

#![forbid(unsafe_code)]

mod error;
mod span;
mod device;

pub use device::{AllocationState, BlockDevice, BlockSizes, StatusExtent, ZeroMode, ZeroSpeed};
pub use error::{BlockError, OutOfRange};
pub use span::{Bytes, Span};
