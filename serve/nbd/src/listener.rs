//! The listening socket, unix or TCP.

mod accept;
mod socket_file;
mod unix;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::listen as listen_on;

use crate::config::{Listen, UnixAccess};
use crate::error::NbdError;
use crate::socket::Socket;
use crate::uri;
use accept::would_block;

pub(crate) use accept::{AcceptOutcome, BACKLOG};
pub use socket_file::SocketFile;
pub use unix::BoundSocket;

/// A listening socket. It never blocks.
#[derive(Debug)]
pub(crate) enum Listener {
    /// A unix socket and its file.
    Unix(BoundSocket),
    /// A TCP port.
    Tcp {
        /// The listening socket.
        listener: TcpListener,
        /// The bound address: port 0 is replaced by the port that the system chose.
        address: SocketAddr,
    },
}

impl Listener {
    /// Binds `listen` and starts to listen. `access` applies to a unix socket only.
    ///
    /// # Errors
    /// [`NbdError::InUse`], [`NbdError::NotASocket`], [`NbdError::Io`].
    pub(crate) fn bind(listen: Listen, access: UnixAccess) -> Result<Self, NbdError> {
        match listen {
            Listen::Unix(path) => BoundSocket::bind_with_access(path, access).map(Self::Unix),
            Listen::Tcp(address) => {
                let listener =
                    TcpListener::bind(address).map_err(NbdError::io("bind the TCP address"))?;
                // `TcpListener::bind` uses a shorter queue; a second `listen` sets its length.
                listen_on(&listener, BACKLOG).map_err(NbdError::io("listen on the TCP address"))?;
                listener
                    .set_nonblocking(true)
                    .map_err(NbdError::io("make the TCP socket non-blocking"))?;
                let address =
                    listener.local_addr().map_err(NbdError::io("read the TCP socket's address"))?;
                Ok(Self::Tcp { listener, address })
            }
        }
    }

    /// Removes the file of a unix socket, so that no new client finds it. Has no effect for TCP.
    pub(crate) fn unlink(&self) {
        if let Self::Unix(socket) = self {
            socket.unlink();
        }
    }

    /// Returns the file of a unix socket, or `None` for TCP.
    pub(crate) fn file(&self) -> Option<SocketFile> {
        match self {
            Self::Unix(socket) => Some(socket.file()),
            Self::Tcp { .. } => None,
        }
    }

    /// Accepts the next client and, on a unix socket, checks its access.
    ///
    /// # Errors
    /// The errors of `accept`, such as too many open files.
    pub(crate) fn accept(&self) -> io::Result<AcceptOutcome> {
        match self {
            Self::Unix(socket) => socket.accept(),
            Self::Tcp { listener, .. } => match listener.accept() {
                Ok((stream, _)) => Ok(AcceptOutcome::Client(Socket::Tcp(stream))),
                Err(error) => would_block(error),
            },
        }
    }

    /// Returns the NBD URI of `export` on this socket.
    pub(crate) fn uri(&self, export: &str) -> String {
        match self {
            Self::Unix(socket) => uri::unix(socket.path(), export),
            Self::Tcp { address, .. } => uri::tcp(*address, export),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(socket) => socket.as_fd(),
            Self::Tcp { listener, .. } => listener.as_fd(),
        }
    }
}
