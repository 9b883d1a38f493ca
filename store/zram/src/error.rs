//! The errors of creating a device.

use thiserror::Error;
use zcomp::StreamError;

/// Why a device could not be created. Nothing is left behind.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ZramError {
    /// No device can have this size.
    #[error("a device cannot have {size} bytes: 1 to {max} are allowed")]
    Size {
        /// The size requested in bytes.
        size: u64,
        /// The largest size allowed in bytes.
        max: u64,
    },
    /// The zone could not be created.
    #[error("cannot create the zone of the device: {0}")]
    Zone(#[from] frames::ZoneError),
    /// The pool could not be created.
    #[error("cannot create the pool of the device: {0}")]
    Pool(#[from] zsmalloc::PoolError),
    /// The slot table could not be reserved.
    #[error("cannot reserve the slot table of the device: {0}")]
    Slots(#[from] sys::MapError),
    /// The memory limit is lower than what the empty device takes.
    #[error(
        "a memory limit of {limit} bytes is too low: the empty device takes {needed} bytes, most of them for the codec"
    )]
    Limit {
        /// The bytes that the empty device takes.
        needed: u64,
        /// The limit requested in bytes.
        limit: u64,
    },
    /// The codec could not be set up.
    #[error(transparent)]
    Stream(#[from] StreamError),
}
