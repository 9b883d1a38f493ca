//! Why a server cannot start or run.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a server cannot start or run. What goes wrong with one client never ends the server.
#[derive(Debug, Error)]
pub enum NbdError {
    /// Another server listens on this socket.
    #[error("another server listens on {}", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// There is a file at this path, and it is not a socket.
    #[error("{} exists and is not a socket", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// A name or a text is longer than the protocol allows.
    #[error("{what} is {len} bytes long; the protocol allows 4096")]
    TextTooLong {
        /// Which one.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
    },
    /// The device is too large for clients, who count bytes in 63 bits.
    #[error("a device of {size} bytes is larger than clients can address")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
    /// The system refused.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl NbdError {
    /// For `map_err`: what was tried when the system refused.
    pub(crate) fn io<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { doing, source: source.into() }
    }
}
