//! What can go wrong with a server.

use std::io;

/// Errors of the load generator.
#[derive(Debug, thiserror::Error)]
pub enum NbdError {
    /// No connection came about.
    #[error("cannot connect to {target}")]
    Connect {
        /// Whom we called.
        target: String,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// The server said something the protocol does not allow at this point.
    #[error("protocol error: {what}")]
    Protocol {
        /// What was wrong.
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
    /// A target that is no NBD address.
    #[error("not an NBD address: {text}")]
    Address {
        /// What was given.
        text: String,
    },
}
