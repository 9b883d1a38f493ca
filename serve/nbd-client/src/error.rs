//! Errors of the client.

use std::io;

use crate::wire::Request;

/// An error of the client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The text is not an NBD address.
    #[error(
        "{text} is not an NBD address: allowed are nbd+unix:///?socket=PATH, nbd://HOST:PORT and a path"
    )]
    Address {
        /// The text.
        text: String,
    },
    /// The client could not connect.
    #[error("cannot connect to {target}")]
    Connect {
        /// The address of the server.
        target: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// The server closed the connection in the handshake or with requests in flight.
    #[error("the server closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[source] io::Error),
    /// The server sent what the protocol does not allow at this point.
    #[error("protocol error: {what}")]
    Protocol {
        /// The violation.
        what: &'static str,
    },
    /// The server refused the export.
    #[error("the server refused the export ({reply:#x}): {text}")]
    Refused {
        /// Units: `NBD_REP_ERR_*`.
        reply: u32,
        /// The server's explanation; may be empty.
        text: String,
    },
    /// A request failed. The connection can still be used.
    #[error("{:?} of {} bytes at {} failed", request.command, request.len, request.offset)]
    Failed {
        /// The request.
        request: Request,
        /// The server's error. NBD's error numbers are those of Linux.
        source: io::Error,
    },
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Closed } else { Self::Io(error) }
    }
}
