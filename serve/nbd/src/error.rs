//! Errors of a server, and errors that end a connection.

use std::io::{self, ErrorKind};
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

/// The reason why a connection ended.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The client closed the connection in the middle of a message.
    #[error("the client closed the connection in the middle of a message")]
    UnexpectedEof,
    /// A timeout expired: of the handshake, for reading the replies, or for sending a request.
    #[error("the client took too long")]
    TimedOut,
    /// The client violated the protocol, so the start of its next message is not known.
    #[error("the client violated the protocol: {what}")]
    ProtocolViolation {
        /// The violation.
        what: &'static str,
    },
    /// The client asked for an unknown export with `OPT_EXPORT_NAME`, which has no error reply.
    #[error("no such export")]
    UnknownExport,
    /// All connections are in use and the client started with `OPT_EXPORT_NAME`, which has no
    /// error reply.
    #[error("too many connections")]
    TooManyConnections,
    /// A long read failed after a part of its simple reply was sent. Only closing the connection
    /// can report that.
    #[error("a page became unreadable after its reply had begun")]
    FailedMidReply,
    /// A socket operation failed.
    #[error("socket: {0}")]
    Io(io::Error),
}

impl ConnectionError {
    /// Returns whether the server ended the connection, so that its last replies can still reach
    /// the client.
    pub(crate) fn is_by_server(&self) -> bool {
        matches!(
            self,
            Self::ProtocolViolation { .. }
                | Self::UnknownExport
                | Self::TooManyConnections
                | Self::FailedMidReply
        )
    }
}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::TimedOut,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::UnexpectedEof,
            _ => Self::Io(error),
        }
    }
}
