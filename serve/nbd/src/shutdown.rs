//! How a server ends: in three steps that every connection can see and wait for.

use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};

/// How far a shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// The server serves.
    Serving = 0,
    /// Requests that have come are done; later ones are refused with `ESHUTDOWN`, options with `REP_ERR_SHUTDOWN`.
    Draining = 1,
    /// Connections are closed.
    Closing = 2,
}

/// The phase of a server, and a descriptor for each change that becomes readable when it happens and stays so.
#[derive(Debug)]
pub struct Shutdown {
    phase: AtomicU8,
    draining: OwnedFd,
    closing: OwnedFd,
}

impl Shutdown {
    /// Of a server that serves.
    ///
    /// # Errors
    /// Those of `eventfd`.
    pub fn new() -> io::Result<Self> {
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        Ok(Self { phase: AtomicU8::new(0), draining: event()?, closing: event()? })
    }

    /// Starts to drain, unless that was done before.
    pub fn drain(&self) {
        self.advance(Phase::Draining, &self.draining);
    }

    /// Starts to close.
    pub fn close(&self) {
        self.drain();
        self.advance(Phase::Closing, &self.closing);
    }

    /// Whether this phase has begun.
    pub fn has_reached(&self, phase: Phase) -> bool {
        // Pairs with the Release in `advance`.
        self.phase.load(Ordering::Acquire) >= phase as u8
    }

    /// Becomes readable when draining begins.
    pub fn draining(&self) -> BorrowedFd<'_> {
        self.draining.as_fd()
    }

    /// Becomes readable when closing begins.
    pub fn closing(&self) -> BorrowedFd<'_> {
        self.closing.as_fd()
    }

    fn advance(&self, phase: Phase, event: &OwnedFd) {
        // Pairs with the Acquire in `has_reached`; before the event, so that a thread it wakes sees the phase.
        self.phase.fetch_max(phase as u8, Ordering::Release);
        // A full counter is readable, too, which is all that matters.
        let _: io::Result<usize> =
            rustix::io::write(event, &1_u64.to_ne_bytes()).map_err(Into::into);
    }
}
