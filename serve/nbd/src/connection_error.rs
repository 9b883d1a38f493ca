//! Errors that end a connection.

use std::io::{self, ErrorKind};

use thiserror::Error;

/// The reason why a connection ended.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The client closed the connection between two messages.
    #[error("the client closed the connection")]
    Closed,
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

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::TimedOut,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::UnexpectedEof,
            _ => Self::Io(error),
        }
    }
}
