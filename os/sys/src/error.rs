//! Errors of the memory calls.

use thiserror::Error;

/// Why memory could not be reserved or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MapError {
    /// The address range cannot be reserved: it is larger than the address space or than a limit on it allows.
    #[error("cannot reserve {len} bytes of address space: {errno}")]
    Reserve {
        /// Bytes asked for.
        len: usize,
        /// What the OS said.
        errno: rustix::io::Errno,
    },
    /// The OS refused to create the memory file.
    #[error("cannot create a memory file: {errno}")]
    MemoryFile {
        /// What the OS said.
        errno: rustix::io::Errno,
    },
    /// The OS did not take memory back; it is still ours.
    #[error("cannot give {len} bytes of memory back: {errno}")]
    Decommit {
        /// Bytes to give back.
        len: usize,
        /// What the OS said.
        errno: rustix::io::Errno,
    },
    /// Memory is given back in whole pages of the system, and the range is not such; it is still ours.
    #[error("{len} bytes from {offset} on are not whole pages of {page} bytes")]
    PartialPage {
        /// Where it begins in the mapping. Units: bytes.
        offset: usize,
        /// Bytes to give back.
        len: usize,
        /// The page size of the system. Units: bytes.
        page: usize,
    },
    /// A length of zero or one that overflows.
    #[error("{len} is no usable length for a mapping")]
    Length {
        /// Bytes asked for.
        len: usize,
    },
}
