//! The listening socket, unix or TCP.

mod socket_file;
mod unix;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, listen as listen_on};

use crate::config::{Listen, UnixAccess};
use crate::error::NbdError;
use crate::refusal::Refusal;
use crate::socket::Socket;
use crate::uri;

pub use socket_file::SocketFile;
pub(crate) use unix::BACKLOG;
pub use unix::BoundSocket;

/// The result of accepting a client.
pub(crate) enum Accepted {
    /// A client to serve.
    Client(Socket),
    /// A client whose connection was closed: it has no access to a unix socket, or setting the
    /// options of its socket failed.
    Refused(Refusal),
    /// No client is waiting.
    NoneWaiting,
}

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

    /// Returns the file of a unix socket, or `None` for TCP.
    pub(crate) fn file(&self) -> Option<SocketFile> {
        match self {
            Self::Unix(socket) => Some(socket.file()),
            Self::Tcp { .. } => None,
        }
    }

    /// Accepts the next client. `send_timeout` limits how long sent bytes may stay unacknowledged
    /// over TCP.
    ///
    /// # Errors
    /// The errors of `accept`, such as too many open files.
    pub(crate) fn accept(&self, send_timeout: Duration) -> io::Result<Accepted> {
        let fd = match accept_with(self, SocketFlags::CLOEXEC) {
            Ok(fd) => fd,
            // A client that left before it was accepted does not wait, either.
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => {
                return Ok(Accepted::NoneWaiting);
            }
            Err(error) => return Err(error.into()),
        };
        let socket = match self {
            Self::Unix(bound) => match bound.check_peer(&fd) {
                Ok(()) => Socket::unix(fd),
                Err(refusal) => return Ok(Accepted::Refused(refusal)),
            },
            Self::Tcp { .. } => Socket::tcp(fd, send_timeout),
        };
        Ok(match socket {
            Ok(socket) => Accepted::Client(socket),
            Err(_) => Accepted::Refused(Refusal::NoResources),
        })
    }

    /// Returns the NBD URI of `export` on this socket.
    pub(crate) fn uri(&self, export: &str) -> String {
        match self {
            Self::Unix(socket) => uri::unix(socket.file().path(), export),
            Self::Tcp { address, .. } => uri::tcp(*address, export),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(socket) => socket.listener.as_fd(),
            Self::Tcp { listener, .. } => listener.as_fd(),
        }
    }
}
