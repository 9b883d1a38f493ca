//! The listening socket.

mod socket_file;
mod unix;

use crate::config::{Listen, UnixAccess};
use crate::error::NbdError;
use crate::refusal::Refusal;
use crate::socket::Socket;
use crate::uri;
use rustix::net::listen as listen_on;
pub use socket_file::SocketFile;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
pub use unix::BoundSocket;

/// Clients that may wait to be taken in.
pub const BACKLOG: i32 = 1024;

/// Where clients come in. Never blocks.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket and the file that names it.
    Unix(BoundSocket),
    /// A TCP port.
    Tcp {
        /// The socket.
        listener: TcpListener,
        /// Where it really is: port 0 was replaced by the port the system chose.
        address: SocketAddr,
    },
}

/// Who came in.
#[derive(Debug)]
pub enum AcceptOutcome {
    /// A client.
    Client(Socket),
    /// A client that has no access; it is closed already.
    Refused(Refusal),
    /// No client waits.
    WouldBlock,
}

impl Listener {
    /// Starts to listen.
    ///
    /// # Errors
    /// [`NbdError::InUse`], [`NbdError::NotASocket`], [`NbdError::Io`].
    pub fn bind(listen: Listen, access: UnixAccess) -> Result<Self, NbdError> {
        match listen {
            Listen::Unix(path) => BoundSocket::bind_with_access(path, access).map(Self::Unix),
            Listen::Tcp(address) => {
                let listener =
                    TcpListener::bind(address).map_err(NbdError::io("bind the TCP address"))?;
                // Once more, for a longer queue than the standard library asks for.
                listen_on(&listener, BACKLOG).map_err(NbdError::io("listen on the TCP address"))?;
                listener
                    .set_nonblocking(true)
                    .map_err(NbdError::io("prepare the listening socket"))?;
                let address = listener.local_addr().map_err(NbdError::io("learn the port"))?;
                Ok(Self::Tcp { listener, address })
            }
        }
    }

    /// Lets no new client find the way in, as far as that can be done before the socket is closed.
    pub fn unlink(&self) {
        if let Self::Unix(socket) = self {
            socket.unlink();
        }
    }

    /// Returns the file that names the socket, if there is one.
    pub fn file(&self) -> Option<SocketFile> {
        match self {
            Self::Unix(socket) => Some(socket.file()),
            Self::Tcp { .. } => None,
        }
    }

    /// Takes the next client in.
    ///
    /// # Errors
    /// Those of `accept`, in particular too many open files.
    pub fn accept(&self) -> io::Result<AcceptOutcome> {
        match self {
            Self::Unix(socket) => socket.accept(),
            Self::Tcp { listener, .. } => match listener.accept() {
                Ok((stream, _)) => Ok(AcceptOutcome::Client(Socket::Tcp(stream))),
                Err(error) => would_block(error),
            },
        }
    }

    /// The address of `export` as clients write it.
    pub fn uri(&self, export: &str) -> String {
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

/// Treats a client that left before it was accepted like none.
fn would_block(error: io::Error) -> io::Result<AcceptOutcome> {
    match error.kind() {
        io::ErrorKind::WouldBlock
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::Interrupted => Ok(AcceptOutcome::WouldBlock),
        _ => Err(error),
    }
}
