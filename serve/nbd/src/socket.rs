//! One connection's socket, unix or TCP.

use rustix::net::sockopt::{self, Timeout};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long a read blocks in the socket before its thread waits for the socket, the deadline and a shutdown together. A busy
/// connection never gets there, and so waits with one system call; an idle one wakes up once.
const RECEIVE_TIMEOUT: Duration = Duration::from_millis(50);
/// A TCP client that sends nothing for so long is asked whether it is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Time between such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// So many questions without an answer end the connection.
const KEEPALIVE_PROBES: u32 = 6;

/// A connected socket. Reading and writing go through shared references, so that another thread can shut it down.
#[derive(Debug)]
pub enum Socket {
    /// From a [`Listen::Unix`](crate::Listen::Unix).
    Unix(UnixStream),
    /// From a [`Listen::Tcp`](crate::Listen::Tcp).
    Tcp(TcpStream),
}

impl Socket {
    /// Ends one or both directions; a thread that waits on the socket wakes up. A socket that is
    /// closed already is fine.
    pub fn shutdown(&self, how: Shutdown) {
        // The only error is "not connected", which is what is wanted.
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(how),
            Self::Tcp(stream) => stream.shutdown(how),
        };
    }
}

impl Socket {
    /// Prepares a socket that was just accepted; `send_timeout` is how long sent bytes may stay unacknowledged.
    ///
    /// # Errors
    /// Those of `setsockopt`.
    pub fn prepare(&self, send_timeout: Duration) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_nonblocking(false)?,
            Self::Tcp(stream) => prepare_tcp(stream, send_timeout)?,
        }
        Ok(sockopt::set_socket_timeout(self, Timeout::Recv, Some(RECEIVE_TIMEOUT))?)
    }
}

fn prepare_tcp(stream: &TcpStream, send_timeout: Duration) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    // Replies are batched already; waiting for more would only delay them.
    stream.set_nodelay(true)?;
    // A client that vanished without a word loses its connection: an idle one by keepalive, a busy one by the user timeout.
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    let millis = u32::try_from(send_timeout.as_millis()).unwrap_or(u32::MAX).max(1);
    Ok(sockopt::set_tcp_user_timeout(stream, millis)?)
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_tcp_client_that_vanishes_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let _client =
            TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let socket = Socket::Tcp(listener.accept().expect("a client waits").0);
        socket.prepare(Duration::from_millis(1500)).expect("socket options");
        assert_eq!(sockopt::tcp_user_timeout(&socket).expect("an option"), 1500);
        assert!(sockopt::socket_keepalive(&socket).expect("an option"));
        assert_eq!(sockopt::tcp_keepidle(&socket).expect("an option"), KEEPALIVE_IDLE);
        assert_eq!(sockopt::tcp_keepintvl(&socket).expect("an option"), KEEPALIVE_INTERVAL);
        assert_eq!(sockopt::tcp_keepcnt(&socket).expect("an option"), KEEPALIVE_PROBES);
    }
}
