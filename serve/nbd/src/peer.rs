//! A connection's socket as its thread uses it: every wait has an end.
//!
//! Reads end at a deadline or when the server shuts down; writes end at a deadline. A deadline is a point in time, so a client that
//! takes or sends a byte now and then does not move it.

use crate::channel::{Cancellation, Deadlines, Inbound};
use crate::connection_table::ConnectionGuard;
use crate::shutdown::{Phase, Shutdown};
use crate::socket::Socket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown as Direction;
use std::time::{Duration, Instant};

/// How long a client may take to close after the server did. What it sends meanwhile is taken and forgotten.
const LINGER_TIMEOUT: Duration = Duration::from_millis(300);

/// How long a client may pause in the middle of a message once the server shuts down. After that it counts as one that stopped.
const STALL_TIMEOUT: Duration = Duration::from_millis(500);

/// The client of one connection.
#[derive(Debug)]
pub struct Peer<'a> {
    guard: &'a ConnectionGuard,
    socket: &'a Socket,
    shutdown: &'a Shutdown,
    /// Whether the connection knows that the server is shutting down.
    shutdown_noticed: Cell<bool>,
    /// Whether a shutdown no longer waits for this client.
    is_drained: Cell<bool>,
    /// For the replies that are sent together, from the moment the first of them has to wait.
    send_timeout: Duration,
    deadlines: Cell<Deadlines>,
    /// When the batch that is being sent must be gone; set by its first wait.
    send_by: Cell<Option<Instant>>,
}

impl<'a> Peer<'a> {
    /// A client behind a socket that was prepared.
    pub fn new(guard: &'a ConnectionGuard, shutdown: &'a Shutdown, send_timeout: Duration) -> Self {
        Self {
            guard,
            socket: guard.socket(),
            shutdown,
            shutdown_noticed: Cell::default(),
            is_drained: Cell::default(),
            send_timeout,
            deadlines: Cell::default(),
            send_by: Cell::default(),
        }
    }

    /// Closes so that no reply is lost: says that nothing follows, then takes what the client still sends until it closes, too. Bytes
    /// that nobody took would make the system reset the connection.
    pub fn linger(&self) {
        self.socket.shutdown(Direction::Write);
        let end = Instant::now().checked_add(LINGER_TIMEOUT);
        let mut ignored = [0; 16 << 10];
        while let Ok(left) = left(end) {
            match recv(self.socket, &mut ignored, RecvFlags::DONTWAIT) {
                Ok((_, 1..)) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if wait(&mut [PollFd::new(self.socket, PollFlags::IN)], left).is_err() {
                        return;
                    }
                }
                Ok((_, 0)) | Err(_) => return,
            }
        }
    }

    /// Waits until the socket is readable or the server goes on to the next phase of its shutdown, at most until the read deadline.
    /// During a shutdown, a client that sends nothing for [`STALL_TIMEOUT`] is not waited for any more.
    fn wait_readable(&self) -> io::Result<()> {
        let left = left(self.deadlines.get().read)?;
        let shutdown_noticed = self.shutdown_noticed.get();
        let event =
            if shutdown_noticed { self.shutdown.closing() } else { self.shutdown.draining() };
        let stall = (shutdown_noticed && !self.is_drained.get()).then_some(STALL_TIMEOUT);
        let limit = [left, stall].into_iter().flatten().min();
        let start = Instant::now();
        wait(
            &mut [
                PollFd::new(self.socket, PollFlags::IN),
                PollFd::from_borrowed_fd(event, PollFlags::IN),
            ],
            limit,
        )?;
        if stall.is_some_and(|stall| start.elapsed() >= stall) {
            self.set_drained();
        }
        Ok(())
    }

    fn set_drained(&self) {
        self.is_drained.set(true);
        self.guard.set_drained();
    }

    /// Whether a read has to end because of a shutdown: with `Interrupted` so that it is noticed, or like at the end of the stream.
    fn interruption(&self) -> Option<io::Result<usize>> {
        match self.shutdown_noticed.get() {
            false if self.shutdown.has_reached(Phase::Draining) => {
                Some(Err(ErrorKind::Interrupted.into()))
            }
            true if self.shutdown.has_reached(Phase::Closing) => Some(Ok(0)),
            _ => None,
        }
    }

    /// Waits until the socket takes more bytes, at most until this batch must be gone.
    fn wait_writable(&self) -> io::Result<()> {
        let by = match self.send_by.get() {
            Some(by) => Some(by),
            None => {
                match (Instant::now().checked_add(self.send_timeout), self.deadlines.get().write) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                }
            }
        };
        self.send_by.set(by);
        wait(&mut [PollFd::new(self.socket, PollFlags::OUT)], left(by)?)
    }
}

impl Read for &Peer<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut flags =
            if self.shutdown_noticed.get() { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
        loop {
            left(self.deadlines.get().read)?;
            if let Some(interruption) = self.interruption() {
                return interruption;
            }
            match recv(self.socket, &mut *buf, flags) {
                Err(Errno::AGAIN) => {}
                result => return Ok(result?.1),
            }
            // The receive timeout of the socket is over: from here on wait for everything that may happen.
            self.wait_readable()?;
            flags = RecvFlags::DONTWAIT;
        }
    }
}

impl Write for &Peer<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        loop {
            match send(self.socket, buf, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Err(Errno::AGAIN) => self.wait_writable()?,
                result => return Ok(result?),
            }
        }
    }

    /// Ends a batch: the next one has a deadline of its own.
    fn flush(&mut self) -> io::Result<()> {
        self.send_by.set(None);
        Ok(())
    }
}

impl Inbound for &Peer<'_> {
    fn set_deadlines(&mut self, deadlines: Deadlines) {
        self.deadlines.set(deadlines);
    }

    fn backlog_at_shutdown(&mut self) -> io::Result<Option<u64>> {
        if !self.shutdown.has_reached(Phase::Draining) {
            return Ok(None);
        }
        self.shutdown_noticed.set(true);
        Ok(Some(ioctl_fionread(self.socket)?))
    }

    fn note_idle(&mut self) -> io::Result<()> {
        // What lies in the socket may have come before the shutdown.
        if ioctl_fionread(self.socket)? == 0 {
            self.set_drained();
        }
        Ok(())
    }

    fn is_closing(&self) -> bool {
        self.shutdown.has_reached(Phase::Closing)
    }

    fn cancellation(&mut self) -> io::Result<Option<Cancellation>> {
        if self.shutdown.has_reached(Phase::Closing) {
            return Ok(Some(Cancellation::Closing));
        }
        // A client that closed its sending side alone still gets its replies. Over TCP, one that closed both
        // looks the same until it is sent something.
        let mut fds = [PollFd::new(self.socket, PollFlags::empty())];
        wait(&mut fds, Some(Duration::ZERO))?;
        let is_gone = fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR);
        Ok(is_gone.then_some(Cancellation::Disconnected))
    }
}

/// The time left until a deadline; `None`: there is no deadline.
fn left(deadline: Option<Instant>) -> io::Result<Option<Duration>> {
    let Some(deadline) = deadline else { return Ok(None) };
    match deadline.checked_duration_since(Instant::now()) {
        Some(left) if !left.is_zero() => Ok(Some(left)),
        _ => Err(ErrorKind::TimedOut.into()),
    }
}

/// Waits for one of `fds`, at most `limit`. A signal ends the wait early.
fn wait(fds: &mut [PollFd<'_>], limit: Option<Duration>) -> io::Result<()> {
    // A limit too long for the system is none.
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(fds, limit.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
