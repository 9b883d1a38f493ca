//! A connection's socket as its thread uses it: every wait has an end.
//!
//! Reads end at a deadline or when the server shuts down; writes end at a deadline. A deadline is a point in time, so a client that
//! takes or sends a byte now and then does not move it.

use crate::channel::{Deadlines, Inbound};
use crate::socket::Socket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

/// The client of one connection.
#[derive(Debug)]
pub struct Peer<'a> {
    socket: &'a Socket,
    /// For the replies that are sent together, from the moment the first of them has to wait.
    send_timeout: Duration,
    deadlines: Cell<Deadlines>,
    /// When the batch that is being sent must be gone; set by its first wait.
    send_by: Cell<Option<Instant>>,
}

impl<'a> Peer<'a> {
    /// A client behind a socket that was prepared.
    pub fn new(socket: &'a Socket, send_timeout: Duration) -> Self {
        Self { socket, send_timeout, deadlines: Cell::default(), send_by: Cell::default() }
    }

    /// Waits until the socket is readable, at most until the read deadline.
    fn wait_readable(&self) -> io::Result<()> {
        let left = left(self.deadlines.get().read)?;
        wait(&mut [PollFd::new(self.socket, PollFlags::IN)], left)
    }

    /// Waits until the socket takes more bytes, at most until this batch must be gone.
    fn wait_writable(&self) -> io::Result<()> {
        let by = match self.send_by.get() {
            Some(by) => Some(by),
            None => match (Instant::now().checked_add(self.send_timeout), self.deadlines.get().write) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            },
        };
        self.send_by.set(by);
        wait(&mut [PollFd::new(self.socket, PollFlags::OUT)], left(by)?)
    }
}

impl Read for &Peer<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut flags = RecvFlags::empty();
        loop {
            left(self.deadlines.get().read)?;
            match recv(self.socket, &mut *buf, flags) {
                // The receive timeout of the socket is over: from here on wait for everything that may happen.
                Err(Errno::AGAIN) => self.wait_readable()?,
                result => return Ok(result?.1),
            }
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
