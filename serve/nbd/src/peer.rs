//! The reader and writer of a connection's socket; each of their waits has a limit.
//!
//! Reads end at a deadline or when the server shuts down; writes end at a deadline. A deadline is
//! a point in time, so a client that transfers single bytes does not move it.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{RecvFlags, SendFlags, Shutdown as Direction, recv, send};

use crate::channel::{Cancellation, Deadlines, Inbound};
use crate::connection_table::ConnectionGuard;
use crate::shutdown::{Phase, Shutdown};
use crate::socket::Socket;

/// Time for a client to close the connection after the server did. Received bytes are discarded.
const LINGER_TIMEOUT: Duration = Duration::from_millis(300);

/// Longest pause of a client in the middle of a message during a shutdown. After it, the shutdown
/// no longer waits for the client.
const STALL_TIMEOUT: Duration = Duration::from_millis(500);

/// The client of a connection.
#[derive(Debug)]
pub struct Peer<'a> {
    guard: &'a ConnectionGuard,
    socket: &'a Socket,
    shutdown: &'a Shutdown,
    /// Whether the connection has noticed the shutdown.
    shutdown_noticed: Cell<bool>,
    /// Whether a shutdown no longer waits for this client.
    is_drained: Cell<bool>,
    /// Time for sending one batch of replies, from the first time that it has to wait.
    send_timeout: Duration,
    deadlines: Cell<Deadlines>,
    /// Deadline of the current batch; set by its first wait.
    send_by: Cell<Option<Instant>>,
}

impl<'a> Peer<'a> {
    /// Creates the client of a connection.
    pub fn new(guard: &'a ConnectionGuard, shutdown: &'a Shutdown, send_timeout: Duration) -> Self {
        Self {
            guard,
            socket: &guard.socket,
            shutdown,
            shutdown_noticed: Cell::default(),
            is_drained: Cell::default(),
            send_timeout,
            deadlines: Cell::default(),
            send_by: Cell::default(),
        }
    }

    /// Closes the connection so that no reply is lost: shuts down the sending side, then discards
    /// what the client sends until it closes, too. If unread bytes were left, the system would
    /// reset the connection.
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

    /// Waits until the socket is readable or the server enters the next phase of its shutdown, at
    /// most until the read deadline. During a shutdown, a client that sends nothing for
    /// [`STALL_TIMEOUT`] counts as drained.
    fn wait_readable(&self) -> io::Result<()> {
        let left = left(self.deadlines.get().read)?;
        let shutdown_noticed = self.shutdown_noticed.get();
        let event = if shutdown_noticed { &self.shutdown.closing } else { &self.shutdown.draining };
        // A client that is already drained has no stall limit.
        let stall = (shutdown_noticed && !self.is_drained.get()).then_some(STALL_TIMEOUT);
        let limit = [left, stall].into_iter().flatten().min();
        let start = Instant::now();
        let mut fds = [PollFd::new(self.socket, PollFlags::IN), PollFd::new(event, PollFlags::IN)];
        wait(&mut fds, limit)?;
        if stall.is_some_and(|stall| start.elapsed() >= stall) {
            self.set_drained();
        }
        Ok(())
    }

    fn set_drained(&self) {
        self.is_drained.set(true);
        self.guard.set_drained();
    }

    /// Returns the result of a read that a shutdown ends: [`ErrorKind::Interrupted`] before the
    /// connection has noticed the shutdown, the end of the stream in the closing phase.
    fn interruption(&self) -> Option<io::Result<usize>> {
        match self.shutdown_noticed.get() {
            false if self.shutdown.has_reached(Phase::Draining) => {
                Some(Err(ErrorKind::Interrupted.into()))
            }
            true if self.shutdown.has_reached(Phase::Closing) => Some(Ok(0)),
            _ => None,
        }
    }

    /// Waits until the socket is writable, at most until the deadline of this batch.
    fn wait_writable(&self) -> io::Result<()> {
        let by = self.send_by.get().or_else(|| {
            let batch = Instant::now().checked_add(self.send_timeout);
            [batch, self.deadlines.get().write].into_iter().flatten().min()
        });
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
            // The receive timeout of the socket is over: poll for the socket, the deadline and a
            // shutdown.
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

    /// Ends a batch: the next one gets its own deadline.
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
        // Bytes in the socket may have arrived before the shutdown.
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
        // A client that closed only its sending side still gets its replies. Over TCP, a client
        // that closed both sides looks the same until the server sends it something.
        let mut fds = [PollFd::new(self.socket, PollFlags::empty())];
        wait(&mut fds, Some(Duration::ZERO))?;
        let is_gone = fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR);
        Ok(is_gone.then_some(Cancellation::Disconnected))
    }
}

/// Returns the time left until a deadline, `None` without one, and `TimedOut` after it.
fn left(deadline: Option<Instant>) -> io::Result<Option<Duration>> {
    let Some(deadline) = deadline else { return Ok(None) };
    match deadline.checked_duration_since(Instant::now()) {
        Some(left) if !left.is_zero() => Ok(Some(left)),
        _ => Err(ErrorKind::TimedOut.into()),
    }
}

/// Polls `fds`, at most for `limit`. A signal ends the wait early.
fn wait(fds: &mut [PollFd<'_>], limit: Option<Duration>) -> io::Result<()> {
    // A limit too long for `Timespec` means no limit.
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(fds, limit.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
