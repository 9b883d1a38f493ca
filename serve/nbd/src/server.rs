//! The server: takes clients in, gives each a thread, and ends in good order.

use crate::config::{Listen, ServerConfig};
use crate::conversation::{Setting, converse};
use crate::error::NbdError;
use crate::export::Export;
use crate::haggle::Admission;
use crate::hangup::Hangup;
use crate::listener::{Arrival, Listener};
use crate::peer::Peer;
use crate::roster::{Admitted, Entry, Limits, Roster};
use crate::socket::Socket;
use crate::stats::{Counters, Stats};
use crate::wire::MAX_STRING;
use block::BlockDevice;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::cell::Cell;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// A connection's stack. Units: bytes. Reserved, not committed.
const STACK: usize = 512 << 10;
/// Longest time that a client in the handshake keeps its place while others wait for it.
const PROTECTED: Duration = Duration::from_secs(1);
/// How long to wait before trying again when the system has no file descriptor or memory for a client.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// An NBD server that listens.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    uri: String,
    shutdown_grace: Duration,
    shared: Arc<Shared>,
}

/// What the server, its handles and its connections share.
struct Shared {
    export: Export,
    counters: Counters,
    roster: Arc<Roster>,
    handshake_timeout: Duration,
    send_timeout: Duration,
    idle_timeout: Option<Duration>,
    stopping: AtomicBool,
    wake: OwnedFd,
}

/// Ends a running server, and tells what it counted. Clones mean the same server.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Server {
    /// Starts to listen. Clients are taken in once [`Server::run`] is called.
    ///
    /// # Errors
    /// [`NbdError`].
    pub fn bind(listen: Listen, device: Arc<dyn BlockDevice>, config: ServerConfig) -> Result<Self, NbdError> {
        let size = device.size().0;
        if i64::try_from(size).is_err() {
            return Err(NbdError::TooLarge { size });
        }
        for (what, text) in [("the export name", &config.export_name), ("the description", &config.description)] {
            if text.len() > MAX_STRING {
                return Err(NbdError::TextTooLong { what, len: text.len() });
            }
        }
        let wake =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(NbdError::io("make an eventfd"))?;
        let listener = Listener::bind(listen)?;
        Ok(Self {
            uri: listener.uri(&config.export_name),
            listener,
            shutdown_grace: config.shutdown_grace,
            shared: Arc::new(Shared {
                export: Export { name: config.export_name, description: config.description, device },
                counters: Counters::default(),
                roster: Arc::new(Roster::new(Limits {
                    seats: config.max_connections,
                    handshakes: config.max_handshakes.max(1),
                    protected: (config.handshake_timeout / 8).min(PROTECTED),
                })),
                handshake_timeout: config.handshake_timeout,
                send_timeout: config.send_timeout,
                idle_timeout: config.idle_timeout,
                stopping: AtomicBool::new(false),
                wake,
            }),
        })
    }

    /// The export's address as clients write it: `nbd+unix:///...` or `nbd://...`.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// A handle that ends the server from any thread.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared) }
    }

    /// Serves until [`Handle::shutdown`] is called, then finishes the requests that have come, closes all connections and removes the
    /// socket file.
    ///
    /// # Errors
    /// [`NbdError::Io`] when the system cannot wait for clients; clients cannot cause that.
    pub fn run(self) -> Result<(), NbdError> {
        let served = self.serve();
        let roster = &self.shared.roster;
        // No more requests come in; those in the sockets and buffers are still done and answered.
        roster.shutdown(Shutdown::Read);
        if !roster.wait_empty(self.shutdown_grace) {
            // Who is left does not take his replies.
            roster.shutdown(Shutdown::Both);
            roster.wait_empty(self.shutdown_grace);
        }
        served
    }

    fn serve(&self) -> Result<(), NbdError> {
        while !self.shared.stopping.load(Ordering::Acquire) {
            let mut fds = [PollFd::new(&self.listener, PollFlags::IN), PollFd::new(&self.shared.wake, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(NbdError::Io { doing: "wait for clients", source: error.into() }),
            }
            self.take_in_all();
        }
        Ok(())
    }

    /// Takes in everybody who waits.
    fn take_in_all(&self) {
        while !self.shared.stopping.load(Ordering::Acquire) {
            match self.listener.accept() {
                Ok(Arrival::Client(socket)) if socket.prepare(self.shared.send_timeout).is_err() => {
                    self.shared.counters.refused(1);
                }
                Ok(Arrival::Client(socket)) => self.admit(socket),
                Ok(Arrival::TurnedAway) => self.shared.counters.refused(1),
                Ok(Arrival::Nobody) => return,
                // No descriptor or no memory: the client waits in the backlog until there is one.
                Err(_) => return self.pause(),
            }
        }
    }

    /// Gives a client a place in the handshake, and a thread.
    fn admit(&self, socket: Socket) {
        let counters = &self.shared.counters;
        let Some(Admitted { entry, evicted }) = self.shared.roster.admit(socket) else { return counters.refused(1) };
        counters.refused(evicted);
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(String::from("nbd")).stack_size(STACK);
        // No thread to be had: the entry is dropped, which closes the connection.
        if thread.spawn(move || talk(&shared, entry)).is_err() {
            counters.refused(1);
        }
    }

    fn pause(&self) {
        let mut fds = [PollFd::new(&self.shared.wake, PollFlags::IN)];
        // Early or late does not matter.
        let _ = poll(&mut fds, Some(&PAUSE));
    }
}

/// One connection's thread.
fn talk(shared: &Shared, entry: Entry) {
    let counters = &shared.counters;
    let refused = Cell::new(false);
    let admission = || {
        if entry.take_seat() {
            counters.seated();
            return Admission::Welcome;
        }
        // Counted once, however often the client asks.
        if !refused.replace(true) {
            counters.refused(1);
        }
        Admission::Full
    };
    let setting = Setting {
        export: &shared.export,
        counters,
        admission: &admission,
        handshake_timeout: shared.handshake_timeout,
        idle_timeout: shared.idle_timeout,
    };
    let peer = Peer::new(entry.socket(), shared.send_timeout);
    match converse(&peer, &peer, setting) {
        Ok(()) | Err(Hangup::Closed | Hangup::NoSeat) => {}
        Err(_) => counters.broken(),
    }
    // Only now may a shutdown return.
    drop(entry);
}

impl Handle {
    /// Ends the server: [`Server::run`] finishes the requests that have come and returns. May be called more than once.
    pub fn shutdown(&self) {
        // Pairs with the Acquire in `serve`; the eventfd makes it look.
        self.shared.stopping.store(true, Ordering::Release);
        // A full eventfd counter is readable too, which is all that matters.
        self.shared.roster.close();
        let _: io::Result<usize> = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes()).map_err(Into::into);
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let roster = &self.shared.roster;
        Stats {
            connections_current: roster.seated() as u64,
            handshakes_current: roster.handshakes() as u64,
            ..self.shared.counters.snapshot()
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("export", &self.export.name)
            .field("roster", &self.roster)
            .finish_non_exhaustive()
    }
}
