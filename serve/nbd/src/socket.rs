//! A connection's socket, unix or TCP.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt::{self, Timeout};
use rustix::net::{Shutdown, shutdown};

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
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// Wraps an accepted unix socket and sets its options.
    ///
    /// # Errors
    /// The errors of `setsockopt`.
    pub(crate) fn unix(fd: OwnedFd) -> io::Result<Self> {
        sockopt::set_socket_timeout(&fd, Timeout::Recv, Some(RECEIVE_TIMEOUT))?;
        Ok(Self(fd))
    }

    /// Wraps an accepted TCP socket and sets its options. `send_timeout` limits how long sent
    /// bytes may stay unacknowledged.
    ///
    /// # Errors
    /// The errors of `setsockopt`.
    pub(crate) fn tcp(fd: OwnedFd, send_timeout: Duration) -> io::Result<Self> {
        // Replies are already batched; Nagle's algorithm would only delay them.
        sockopt::set_tcp_nodelay(&fd, true)?;
        // Detect vanished clients: keepalive covers idle connections, the user timeout busy ones.
        sockopt::set_socket_keepalive(&fd, true)?;
        sockopt::set_tcp_keepidle(&fd, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(&fd, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(&fd, KEEPALIVE_PROBES)?;
        let millis = u32::try_from(send_timeout.as_millis()).unwrap_or(u32::MAX).max(1);
        sockopt::set_tcp_user_timeout(&fd, millis)?;
        Self::unix(fd)
    }

    /// Shuts down one or both directions, which wakes threads waiting on the socket. Has no
    /// effect on a socket that is already closed.
    pub(crate) fn shutdown(&self, how: Shutdown) {
        // The only error is "not connected", which means that it is already shut down.
        let _ = shutdown(self, how);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn tcp_options_detect_vanished_clients() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let _client =
            TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (stream, _) = listener.accept().expect("a client waits");
        let socket =
            Socket::tcp(stream.into(), Duration::from_millis(1500)).expect("socket options");
        assert_eq!(sockopt::tcp_user_timeout(&socket).expect("an option"), 1500);
        assert!(sockopt::socket_keepalive(&socket).expect("an option"));
        assert_eq!(sockopt::tcp_keepidle(&socket).expect("an option"), KEEPALIVE_IDLE);
        assert_eq!(sockopt::tcp_keepintvl(&socket).expect("an option"), KEEPALIVE_INTERVAL);
        assert_eq!(sockopt::tcp_keepcnt(&socket).expect("an option"), KEEPALIVE_PROBES);
    }
}
