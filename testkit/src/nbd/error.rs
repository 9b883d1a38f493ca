//! Errors of the load generator.

use std::io;

/// An error of the load generator.
#[derive(Debug, thiserror::Error)]
pub enum NbdError {
    /// The client could not connect.
    #[error("cannot connect to {target}")]
    Connect {
        /// The address of the server.
        target: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// The server sent what the protocol does not allow at this point.
    #[error("protocol error: {what}")]
    Protocol {
        /// The violation.
        what: &'static str,
    },
    /// The server refused the export.
    #[error("the server refused the export: option reply {reply:#x}")]
    Refused {
        /// Units: `NBD_REP_ERR_*`.
        reply: u32,
    },
    /// A request failed.
    #[error("request at page {page} failed with NBD error {code}")]
    Failed {
        /// First page of the request.
        page: u32,
        /// Units: NBD errno.
        code: u32,
    },
    /// A read returned other bytes than were written.
    #[error("page {page} holds other bytes than were written to it")]
    Mismatch {
        /// Page of the disk.
        page: u32,
    },
    /// The text is not an NBD address.
    #[error(
        "{text} is not an NBD address: allowed are nbd+unix:///?socket=PATH, nbd://HOST:PORT and a path"
    )]
    Address {
        /// The text.
        text: String,
    },
}
