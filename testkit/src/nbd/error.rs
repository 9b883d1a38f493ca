//! Errors of the load generator.

use nbd_client::ClientError;

/// An error of the load generator.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The connection failed, or a request.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A read returned other bytes than were written.
    #[error("page {page} holds other bytes than were written to it")]
    Mismatch {
        /// Page of the disk.
        page: u32,
    },
}
