//! Why a connection ended before the client said good-bye.

use std::io::{self, ErrorKind};
use thiserror::Error;

/// Why a connection ended.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The client closed between two messages.
    #[error("the client closed the connection")]
    Closed,
    /// The client closed in the middle of a message.
    #[error("the client vanished in the middle of a message")]
    UnexpectedEof,
    /// The client took longer than allowed: for the handshake, to take its replies, or to send a request.
    #[error("the client took too long")]
    TimedOut,
    /// The client spoke something else; where its next message begins is not known.
    #[error("the client does not speak the protocol: {what}")]
    ProtocolViolation {
        /// What was wrong.
        what: &'static str,
    },
    /// The client chose an export that cannot be had, in the one way that allows no answer.
    #[error("no such export")]
    UnknownExport,
    /// All connections are taken, and the client chose the one way that allows no answer.
    #[error("too many connections")]
    TooManyConnections,
    /// A long read failed after its reply had begun; only closing can tell.
    #[error("a page became unreadable after its reply had begun")]
    FailedMidReply,
    /// The socket failed.
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
