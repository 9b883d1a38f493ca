//! The queue of a listening socket, and what `accept` on it returns.

use std::io;

use crate::refusal::Refusal;
use crate::socket::Socket;

/// Length of the listen queue: clients that wait for `accept`.
pub(crate) const BACKLOG: i32 = 1024;

/// The result of accepting a client.
#[derive(Debug)]
pub(crate) enum AcceptOutcome {
    /// A client with access.
    Client(Socket),
    /// A client without access; its connection is already closed.
    Refused(Refusal),
    /// No client is waiting.
    WouldBlock,
}

/// Maps "no client is waiting", and a client that left before it was accepted, to
/// [`AcceptOutcome::WouldBlock`].
pub(crate) fn would_block(error: io::Error) -> io::Result<AcceptOutcome> {
    match error.kind() {
        io::ErrorKind::WouldBlock
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::Interrupted => Ok(AcceptOutcome::WouldBlock),
        _ => Err(error),
    }
}
