//! The server: accepts clients, starts a thread for each and shuts down in an orderly way.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use block::BlockDevice;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::config::{Listen, ServerConfig};
use crate::connection::{ConnectionContext, serve_connection};
use crate::connection_table::{ConnectionGuard, ConnectionLimits, ConnectionTable};
use crate::error::{ConnectionError, NbdError};
use crate::export::Export;
use crate::handshake::StartDecision;
use crate::listener::{Accepted, BACKLOG, Listener, SocketFile};
use crate::peer::Peer;
use crate::refusal::{Refusal, RefusalLog};
use crate::shutdown::{Phase, Shutdown};
use crate::socket::Socket;
use crate::stats::{CONNECTION_BUFFERS, Counters, Stats};
use crate::wire::MAX_STRING;

/// Stack size of a connection's thread. Reserved, not committed. Units: bytes.
const STACK_SIZE: usize = 512 << 10;
/// Longest time in the handshake during which a client is not evicted.
const MAX_EVICTION_GRACE: Duration = Duration::from_secs(1);
/// Time in which clients can still send requests, to be refused, if a shutdown has no request to
/// wait for.
const DRAIN_WINDOW: Duration = Duration::from_millis(500);
/// Time for connections to send their remaining replies when they are closed, and then again for
/// their threads to end.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Delay before the next `accept` when the system has no file descriptor or memory for a client.
const ACCEPT_RETRY_DELAY: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// A listening NBD server.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    uri: String,
    shared: Arc<Shared>,
}

/// The state shared by the server, its handles and its connections.
struct Shared {
    export: Export,
    counters: Counters,
    connections: Arc<ConnectionTable>,
    config: ServerConfig,
    shutdown: Shutdown,
    refusals: OnceLock<RefusalLog>,
}

/// A handle that shuts a server down and returns its counters. Clones refer to the same server.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Server {
    /// Checks the configuration and starts to listen. Clients are accepted once [`Server::run`]
    /// is called.
    ///
    /// # Errors
    /// [`NbdError`]: the device or a string is too large, the address is in use, or a system call
    /// failed.
    pub fn bind(
        listen: Listen,
        device: Arc<dyn BlockDevice>,
        config: ServerConfig,
    ) -> Result<Self, NbdError> {
        // Check what the protocol cannot express.
        let size = device.size().0;
        if i64::try_from(size).is_err() {
            return Err(NbdError::TooLarge { size });
        }
        for (what, text) in
            [("the export name", &config.export_name), ("the description", &config.description)]
        {
            if text.len() > MAX_STRING {
                return Err(NbdError::TextTooLong { what, len: text.len() });
            }
        }
        // Listen, and set up the shared state.
        let shutdown = Shutdown::new().map_err(NbdError::io("create an eventfd"))?;
        let listener = Listener::bind(listen, config.access.clone())?;
        let uri = listener.uri(&config.export_name);
        let shared = Shared {
            export: Export {
                name: config.export_name.clone(),
                description: config.description.clone(),
                device,
            },
            counters: Counters::default(),
            connections: Arc::new(ConnectionTable::new(ConnectionLimits {
                max_active: config.max_connections,
                max_handshakes: config.max_handshakes.max(1),
                eviction_grace: (config.handshake_timeout / 8).min(MAX_EVICTION_GRACE),
            })),
            config,
            shutdown,
            refusals: OnceLock::new(),
        };
        Ok(Self { listener, uri, shared: Arc::new(shared) })
    }

    /// Returns the export's NBD URI: `nbd+unix:///...` or `nbd://...`.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Returns a handle that can shut the server down from any thread.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared) }
    }

    /// Returns the file of the unix socket, for a process that must end before [`Server::run`]
    /// returns. Returns `None` if the server listens on TCP.
    #[must_use]
    pub fn socket_file(&self) -> Option<SocketFile> {
        self.listener.file()
    }

    /// Sets the log for refused clients. Has no effect if a log was set before.
    pub fn log_refusals(&self, log: RefusalLog) {
        // The only error is that a log was set before.
        let _ = self.shared.refusals.set(log);
    }

    /// Serves clients until [`Handle::shutdown`] is called, then shuts down.
    ///
    /// A shutdown stops listening and removes the socket file. It finishes the requests that have
    /// arrived, refuses later requests with `ESHUTDOWN` and later options with
    /// `REP_ERR_SHUTDOWN`, and closes all connections. After [`ServerConfig::shutdown_grace`] it
    /// interrupts requests: a long trim or zeroing gets `ESHUTDOWN`.
    ///
    /// # Errors
    /// [`NbdError::Io`] if polling the listening socket fails. Clients cannot cause that.
    pub fn run(self) -> Result<(), NbdError> {
        let served = self.serve();
        // Start draining: no connection waits for a place in the handshake any more.
        self.handle().shutdown();
        // Stop listening. Accept the clients that are already in the queue, so that they get an
        // error.
        if let Some(file) = self.listener.file() {
            file.remove();
        }
        self.accept_pending(|| false);
        // Wait for the requests in flight, then close all connections.
        let shared = Arc::clone(&self.shared);
        let (start, grace) = (Instant::now(), shared.config.shutdown_grace);
        drop(self);
        shared.connections.wait_drained(DRAIN_WINDOW.min(grace), grace);
        shared.shutdown.close();
        if !shared.connections.wait_empty(CLOSE_TIMEOUT) {
            // The remaining clients do not read their replies, or their threads are in a device
            // call.
            shared.connections.shutdown();
            shared.connections.wait_empty(grace.saturating_sub(start.elapsed()).max(CLOSE_TIMEOUT));
        }
        served
    }

    fn serve(&self) -> Result<(), NbdError> {
        while !self.shared.shutdown.has_reached(Phase::Draining) {
            let event = PollFd::new(&self.shared.shutdown.draining, PollFlags::IN);
            let mut fds = [PollFd::new(&self.listener, PollFlags::IN), event];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(NbdError::io("wait for clients")(error)),
            }
            self.accept_pending(|| self.shared.shutdown.has_reached(Phase::Draining));
        }
        Ok(())
    }

    /// Accepts waiting clients until `is_over` returns true. Accepts at most [`BACKLOG`] of them,
    /// because new clients may connect as fast as these are accepted.
    fn accept_pending(&self, is_over: impl Fn() -> bool) {
        for _ in 0..BACKLOG {
            if is_over() {
                return;
            }
            match self.listener.accept(self.shared.config.send_timeout) {
                Ok(Accepted::Client(socket)) => {
                    if self.spawn_connection(socket).is_none() {
                        return;
                    }
                }
                Ok(Accepted::Refused(refusal)) => self.shared.refuse(refusal),
                Ok(Accepted::NoneWaiting) => return,
                // No file descriptor or no memory: the client stays in the listen queue.
                Err(_) => return self.wait_before_retry(),
            }
        }
    }

    /// Enters a client into the connection table and starts its thread. Returns `None` if the
    /// handshake limit is reached and the server is shutting down.
    fn spawn_connection(&self, socket: Socket) -> Option<()> {
        let (guard, evicted) = self.shared.connections.accept(socket)?;
        let handshakes = self.shared.connections.limits.max_handshakes;
        (0..evicted).for_each(|_| self.shared.refuse(Refusal::Evicted { handshakes }));
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(String::from("nbd")).stack_size(STACK_SIZE);
        // If no thread can be created, dropping the closure drops the guard, which closes the
        // connection.
        if thread.spawn(move || connection_main(&shared, guard)).is_err() {
            self.shared.refuse(Refusal::NoResources);
        }
        Some(())
    }

    fn wait_before_retry(&self) {
        // A shutdown ends the delay.
        let mut fds = [PollFd::new(&self.shared.shutdown.draining, PollFlags::IN)];
        // The delay need not be exact, so a signal or an error may end it.
        let _ = poll(&mut fds, Some(&ACCEPT_RETRY_DELAY));
    }
}

/// Serves one connection; the main function of its thread.
fn connection_main(shared: &Shared, guard: ConnectionGuard) {
    let refused = Cell::new(false);
    let accept_start = || {
        if guard.activate() {
            shared.counters.connections_total.add(1);
            return StartDecision::Accept;
        }
        // Count a connection once, however often its client asks.
        if !refused.replace(true) {
            let limit = shared.connections.limits.max_active;
            shared.refuse(Refusal::TooManyConnections { limit });
        }
        StartDecision::Reject
    };
    let context = ConnectionContext {
        export: &shared.export,
        counters: &shared.counters,
        accept_start: &accept_start,
        handshake_timeout: shared.config.handshake_timeout,
        idle_timeout: shared.config.idle_timeout,
    };
    let peer = Peer::new(&guard, &shared.shutdown, shared.config.send_timeout);
    let result = serve_connection(&peer, &peer, context);
    let is_closing = shared.shutdown.has_reached(Phase::Closing);
    match result {
        Ok(()) | Err(ConnectionError::TooManyConnections) => {}
        Err(_) if is_closing => {}
        Err(_) => shared.counters.connections_broken.add(1),
    }
    // If the server ends the connection, its last replies must not be lost in a reset.
    if is_closing || result.is_err_and(|error| error.is_by_server()) {
        peer.linger();
    }
    // `Server::run` waits for the guard: drop it last.
    drop(guard);
}

impl Handle {
    /// Starts the shutdown: [`Server::run`] finishes the requests that have arrived and returns.
    /// May be called more than once.
    pub fn shutdown(&self) {
        self.shared.shutdown.drain();
        self.shared.connections.close();
    }

    /// Returns the counters and the current numbers of connections.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (active, handshakes) = self.shared.connections.counts();
        let mut stats = self.shared.counters.snapshot();
        stats.connections_current = active;
        stats.handshakes_current = handshakes;
        stats.buffer_bytes += (active + handshakes) * CONNECTION_BUFFERS;
        stats
    }
}

impl Shared {
    fn refuse(&self, refusal: Refusal) {
        self.counters.connections_refused.add(1);
        if let Some(log) = self.refusals.get() {
            log.note(refusal);
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("export", &self.export.name)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
