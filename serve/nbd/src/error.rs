//! Errors of starting and running a server.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// An error that keeps a server from starting or running. An error of one client never ends the
/// server.
#[derive(Debug, Error)]
pub enum NbdError {
    /// Another server listens on the unix socket.
    #[error("another server listens on {}", path.display())]
    InUse {
        /// The socket's path.
        path: PathBuf,
    },
    /// The path of the unix socket names a file of another type.
    #[error("{} exists and is not a socket", path.display())]
    NotASocket {
        /// The file's path.
        path: PathBuf,
    },
    /// A string of the configuration is longer than the protocol allows.
    #[error("{what} is {len} bytes long; at most 4096 are allowed")]
    TextTooLong {
        /// The string: the export's name or its description.
        what: &'static str,
        /// Its length. Units: bytes.
        len: usize,
    },
    /// The device is larger than the protocol's 63-bit offsets can address.
    #[error("the device has {size} bytes; at most 2^63 - 1 are allowed")]
    TooLarge {
        /// The device's size. Units: bytes.
        size: u64,
    },
    /// A system call failed.
    #[error("cannot {doing}: {source}")]
    Io {
        /// The operation that failed, as a verb and its object.
        doing: &'static str,
        /// The error of the system call.
        source: io::Error,
    },
}

impl NbdError {
    /// Returns a function for `map_err` that wraps a system call's error; `doing` names the
    /// operation.
    pub(crate) fn io<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { doing, source: source.into() }
    }
}
