//! Why a device could not be made.

use thiserror::Error;
use zcomp::StreamError;

/// Why there is no device. Nothing is left behind.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ZramError {
    /// A size that no device can have.
    #[error("a device of {size} bytes is not possible: 1 to {max} are")]
    Size {
        /// Bytes asked for.
        size: u64,
        /// The largest there can be.
        max: u64,
    },
    /// The arena cannot be reserved.
    #[error("no room for the device's frames: {0}")]
    Zone(#[from] frames::ZoneError),
    /// The pool cannot be made.
    #[error("no pool for the device: {0}")]
    Pool(#[from] zsmalloc::PoolError),
    /// The slot table cannot be reserved.
    #[error("no room for the device's slot table: {0}")]
    Slots(#[from] sys::MapError),
    /// The memory limit is less than the device takes when it is empty.
    #[error(
        "a memory limit of {limit} bytes is not possible: the empty device takes {needed} already, most of it for the codec"
    )]
    Limit {
        /// Bytes the empty device takes.
        needed: u64,
        /// The limit asked for.
        limit: u64,
    },
    /// The codec cannot be set up.
    #[error(transparent)]
    Stream(#[from] StreamError),
}
