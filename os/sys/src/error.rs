//! Errors of the memory functions.

use thiserror::Error;

/// The error of a memory function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MapError {
    /// The OS refused an address range: it exceeds the address space or a limit on it.
    #[error("cannot reserve {len} bytes of address space: {errno}")]
    Reserve {
        /// Requested bytes.
        len: usize,
        /// The error of the OS.
        errno: rustix::io::Errno,
    },
    /// The OS refused to create the memory file.
    #[error("cannot create a memory file: {errno}")]
    MemoryFile {
        /// The error of the OS.
        errno: rustix::io::Errno,
    },
    /// The OS refused to take memory back; the range stays usable.
    #[error("cannot decommit {len} bytes: {errno}")]
    Decommit {
        /// Bytes to decommit.
        len: usize,
        /// The error of the OS.
        errno: rustix::io::Errno,
    },
    /// The range to decommit is not whole system pages; it is unchanged.
    #[error("cannot decommit {len} bytes at offset {offset}: not whole pages of {page} bytes")]
    PartialPage {
        /// The start of the range in the mapping. Units: bytes.
        offset: usize,
        /// Bytes to decommit.
        len: usize,
        /// The page size of the system. Units: bytes.
        page: usize,
    },
    /// The length is zero, or larger than the address space.
    #[error("{len} is not a valid length for a mapping: zero, or larger than the address space")]
    Length {
        /// The requested length, in the units of the failed call: bytes, words or frames.
        len: usize,
    },
}
