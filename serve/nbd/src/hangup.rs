//! Why a conversation ended before the client said good-bye.

use std::io::{self, ErrorKind};
use thiserror::Error;

/// Why a conversation ended.
#[derive(Debug, Error)]
pub enum Hangup {
    /// The client closed between two messages.
    #[error("the client closed the connection")]
    Closed,
    /// The client closed in the middle of a message.
    #[error("the client vanished in the middle of a message")]
    Vanished,
    /// The client took longer than allowed: for the handshake, to take its replies, or to send a request.
    #[error("the client took too long")]
    TooSlow,
    /// The client spoke something else; where its next message begins is not known.
    #[error("the client does not speak the protocol: {what}")]
    Garbage {
        /// What was wrong.
        what: &'static str,
    },
    /// The client chose an export that cannot be had, in the one way that allows no answer.
    #[error("no such export")]
    NoExport,
    /// The server has no seat for the client, who chose the one way that allows no answer.
    #[error("no seat")]
    NoSeat,
    /// A long read failed after its reply had begun; only closing can tell.
    #[error("a page became unreadable after its reply had begun")]
    LateFailure,
    /// The socket failed.
    #[error("socket: {0}")]
    Io(io::Error),
}

impl From<io::Error> for Hangup {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::TooSlow,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::Vanished,
            _ => Self::Io(error),
        }
    }
}
