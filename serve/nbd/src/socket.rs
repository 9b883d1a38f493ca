//! One connection's socket, unix or TCP.

use crate::channel::Inbound;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A connected socket. Reading and writing go through shared references, so that another thread can shut it down.
#[derive(Debug)]
pub enum Socket {
    /// From a [`Listen::Unix`](crate::Listen::Unix).
    Unix(UnixStream),
    /// From a [`Listen::Tcp`](crate::Listen::Tcp).
    Tcp(TcpStream),
}

impl Socket {
    /// Ends one or both directions; whoever waits on the socket wakes up. A socket that is closed already is fine.
    pub fn shutdown(&self, how: Shutdown) {
        // The only error is "not connected", which is what is wanted.
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(how),
            Self::Tcp(stream) => stream.shutdown(how),
        };
    }
}

impl Read for &Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Unix(stream) => (&mut &*stream).read(buf),
            Socket::Tcp(stream) => (&mut &*stream).read(buf),
        }
    }
}

impl Write for &Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Unix(stream) => (&mut &*stream).write(buf),
            Socket::Tcp(stream) => (&mut &*stream).write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Inbound for &Socket {
    fn set_patience(&mut self, limit: Option<Duration>) -> io::Result<()> {
        match self {
            Socket::Unix(stream) => stream.set_read_timeout(limit).and(stream.set_write_timeout(limit)),
            Socket::Tcp(stream) => stream.set_read_timeout(limit).and(stream.set_write_timeout(limit)),
        }
    }
}
