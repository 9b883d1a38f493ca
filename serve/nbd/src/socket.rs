//! A connection's socket, unix or TCP.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::sockopt::{self, Timeout};

/// Receive timeout of the socket. After it, the thread polls for the socket, the deadline and a
/// shutdown together. A busy connection does not reach the timeout, so it waits with one system
/// call; an idle connection reaches it once per wait.
const RECEIVE_TIMEOUT: Duration = Duration::from_millis(50);
/// Idle time of a TCP connection before the first keepalive probe.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Time between keepalive probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Number of unanswered keepalive probes that end a connection.
const KEEPALIVE_PROBES: u32 = 6;

/// A connected socket. Reads and writes take `&self`, so that another thread can shut it down.
#[derive(Debug)]
pub enum Socket {
    /// A client of [`Listen::Unix`](crate::Listen::Unix).
    Unix(UnixStream),
    /// A client of [`Listen::Tcp`](crate::Listen::Tcp).
    Tcp(TcpStream),
}

impl Socket {
    /// Shuts down one or both directions, which wakes threads waiting on the socket. Has no
    /// effect on a socket that is already closed.
    pub fn shutdown(&self, how: Shutdown) {
        // The only error is "not connected", which means that it is already shut down.
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(how),
            Self::Tcp(stream) => stream.shutdown(how),
        };
    }
}

impl Socket {
    /// Sets the socket options of an accepted socket. `send_timeout` limits how long sent bytes
    /// may stay unacknowledged over TCP.
    ///
    /// # Errors
    /// The errors of `setsockopt`.
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
    // Replies are already batched; Nagle's algorithm would only delay them.
    stream.set_nodelay(true)?;
    // Detect vanished clients: keepalive covers idle connections, the user timeout busy ones.
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
    fn tcp_options_detect_vanished_clients() {
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
