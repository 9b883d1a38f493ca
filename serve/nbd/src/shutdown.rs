//! The phases of a shutdown, which every connection can check and wait for.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// A phase of a server's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Requests are served.
    Serving = 0,
    /// Requests that arrived before this phase are finished. Later requests get `ESHUTDOWN`,
    /// later options `REP_ERR_SHUTDOWN`.
    Draining = 1,
    /// Connections are being closed.
    Closing = 2,
}

/// The phase of a server, and an eventfd for each change of phase. The eventfd becomes readable
/// at the change and stays readable.
#[derive(Debug)]
pub struct Shutdown {
    phase: AtomicU8,
    /// Becomes readable when [`Phase::Draining`] begins.
    pub draining: OwnedFd,
    /// Becomes readable when [`Phase::Closing`] begins.
    pub closing: OwnedFd,
}

impl Shutdown {
    /// Creates the state of a server in [`Phase::Serving`].
    ///
    /// # Errors
    /// The error of `eventfd`.
    pub fn new() -> io::Result<Self> {
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        Ok(Self { phase: AtomicU8::new(0), draining: event()?, closing: event()? })
    }

    /// Enters [`Phase::Draining`]. Has no effect in a later phase.
    pub fn drain(&self) {
        self.advance(Phase::Draining, &self.draining);
    }

    /// Enters [`Phase::Closing`].
    pub fn close(&self) {
        self.drain();
        self.advance(Phase::Closing, &self.closing);
    }

    /// Returns whether the server is in `phase` or a later one.
    pub fn has_reached(&self, phase: Phase) -> bool {
        // Pairs with the Release in `advance`.
        self.phase.load(Ordering::Acquire) >= phase as u8
    }

    fn advance(&self, phase: Phase, event: &OwnedFd) {
        // Pairs with the Acquire in `has_reached`. The store comes before the event, so that a
        // thread woken by the event sees the phase.
        self.phase.fetch_max(phase as u8, Ordering::Release);
        // The only error is a full counter, and a full eventfd is readable.
        let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
    }
}
