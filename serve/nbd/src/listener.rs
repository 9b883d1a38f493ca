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
pub use unix::UnixDoor;

/// Clients that may wait to be taken in.
pub const BACKLOG: i32 = 1024;

/// Where clients come in. Never blocks.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket and the file that names it.
    Unix(UnixDoor),
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
pub enum Arrival {
    /// A client.
    Client(Socket),
    /// A client that has no access; it is closed already.
    TurnedAway(Refusal),
    /// Nobody waits.
    Nobody,
}

impl Listener {
    /// Starts to listen.
    ///
    /// # Errors
    /// [`NbdError::InUse`], [`NbdError::NotASocket`], [`NbdError::Io`].
    pub fn bind(listen: Listen, access: UnixAccess) -> Result<Self, NbdError> {
        match listen {
            Listen::Unix(path) => UnixDoor::open_for(path, access).map(Self::Unix),
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
        if let Self::Unix(door) = self {
            door.unlink();
        }
    }

    /// Returns the file that names the socket, if there is one.
    pub fn file(&self) -> Option<SocketFile> {
        match self {
            Self::Unix(door) => Some(door.file()),
            Self::Tcp { .. } => None,
        }
    }

    /// Takes the next client in.
    ///
    /// # Errors
    /// Those of `accept`, in particular too many open files.
    pub fn accept(&self) -> io::Result<Arrival> {
        match self {
            Self::Unix(door) => door.accept(),
            Self::Tcp { listener, .. } => match listener.accept() {
                Ok((stream, _)) => Ok(Arrival::Client(Socket::Tcp(stream))),
                Err(error) => nobody(error),
            },
        }
    }

    /// The address of `export` as clients write it.
    pub fn uri(&self, export: &str) -> String {
        match self {
            Self::Unix(door) => uri::unix(door.path(), export),
            Self::Tcp { address, .. } => uri::tcp(*address, export),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(door) => door.as_fd(),
            Self::Tcp { listener, .. } => listener.as_fd(),
        }
    }
}

/// A client that left before it was taken in is nobody.
fn nobody(error: io::Error) -> io::Result<Arrival> {
    match error.kind() {
        io::ErrorKind::WouldBlock
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::Interrupted => Ok(Arrival::Nobody),
        _ => Err(error),
    }
}
