//! The server: accepts clients, starts a thread for each and shuts down in an orderly way.

use std::cell::Cell;
use std::net::Shutdown;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use block::BlockDevice;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::config::{Listen, ServerConfig};
use crate::connection::{ConnectionContext, serve_connection};
use crate::connection_error::ConnectionError;
use crate::connection_table::{ConnectionGuard, ConnectionLimits, ConnectionTable, NewConnection};
use crate::error::NbdError;
use crate::export::Export;
use crate::handshake::StartDecision;
use crate::listener::{AcceptOutcome, BACKLOG, Listener, SocketFile};
use crate::peer::Peer;
use crate::refusal::{Refusal, RefusalLog};
use crate::shutdown::{Phase, Shutdown as Lifecycle};
use crate::socket::Socket;
use crate::stats::{Counters, Stats};
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
    shutdown_grace: Duration,
    shared: Arc<Shared>,
}

/// The state shared by the server, its handles and its connections.
struct Shared {
    export: Export,
    counters: Counters,
    connections: Arc<ConnectionTable>,
    handshake_timeout: Duration,
    send_timeout: Duration,
    idle_timeout: Option<Duration>,
    shutdown: Lifecycle,
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
        let shutdown = Lifecycle::new().map_err(NbdError::io("create an eventfd"))?;
        let listener = Listener::bind(listen, config.access)?;
        Ok(Self {
            uri: listener.uri(&config.export_name),
            listener,
            shutdown_grace: config.shutdown_grace,
            shared: Arc::new(Shared {
                export: Export {
                    name: config.export_name,
                    description: config.description,
                    device,
                },
                counters: Counters::default(),
                connections: Arc::new(ConnectionTable::new(ConnectionLimits {
                    max_active: config.max_connections,
                    max_handshakes: config.max_handshakes.max(1),
                    eviction_grace: (config.handshake_timeout / 8).min(MAX_EVICTION_GRACE),
                })),
                handshake_timeout: config.handshake_timeout,
                send_timeout: config.send_timeout,
                idle_timeout: config.idle_timeout,
                shutdown,
                refusals: OnceLock::new(),
            }),
        })
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
        let shared = Arc::clone(&self.shared);
        shared.shutdown.drain();
        shared.connections.close();
        // Stop listening. Accept the clients that are already in the queue, so that they get an
        // error.
        self.listener.unlink();
        self.accept_pending(|| false);
        // Wait for the requests in flight, then close all connections.
        let (start, grace) = (Instant::now(), self.shutdown_grace);
        drop(self);
        shared.connections.wait_drained(DRAIN_WINDOW.min(grace), grace);
        shared.shutdown.close();
        if !shared.connections.wait_empty(CLOSE_TIMEOUT) {
            // The remaining clients do not read their replies, or their threads are in a device
            // call.
            shared.connections.shutdown(Shutdown::Both);
            shared.connections.wait_empty(grace.saturating_sub(start.elapsed()).max(CLOSE_TIMEOUT));
        }
        served
    }

    fn serve(&self) -> Result<(), NbdError> {
        while !self.shared.shutdown.has_reached(Phase::Draining) {
            let event = PollFd::from_borrowed_fd(self.shared.shutdown.draining(), PollFlags::IN);
            let mut fds = [PollFd::new(&self.listener, PollFlags::IN), event];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    return Err(NbdError::Io { doing: "wait for clients", source: error.into() });
                }
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
            match self.listener.accept() {
                Ok(AcceptOutcome::Client(socket))
                    if socket.prepare(self.shared.send_timeout).is_err() =>
                {
                    self.shared.refuse(Refusal::NoResources);
                }
                Ok(AcceptOutcome::Client(socket)) => {
                    if self.spawn_connection(socket).is_none() {
                        return;
                    }
                }
                Ok(AcceptOutcome::Refused(refusal)) => self.shared.refuse(refusal),
                Ok(AcceptOutcome::WouldBlock) => return,
                // No file descriptor or no memory: the client stays in the listen queue.
                Err(_) => return self.wait_before_retry(),
            }
        }
    }

    /// Enters a client into the connection table and starts its thread. Returns `None` if the
    /// handshake limit is reached and the server is shutting down.
    fn spawn_connection(&self, socket: Socket) -> Option<()> {
        let NewConnection { guard, evicted } = self.shared.connections.accept(socket)?;
        (0..evicted).for_each(|_| {
            self.shared.refuse(Refusal::Evicted {
                handshakes: self.shared.connections.limits().max_handshakes,
            })
        });
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
        let mut fds = [PollFd::from_borrowed_fd(self.shared.shutdown.draining(), PollFlags::IN)];
        // The delay need not be exact, so a signal or an error may end it.
        let _ = poll(&mut fds, Some(&ACCEPT_RETRY_DELAY));
    }
}

/// Serves one connection; the main function of its thread.
fn connection_main(shared: &Shared, guard: ConnectionGuard) {
    let counters = &shared.counters;
    let refused = Cell::new(false);
    let accept_start = || {
        if guard.activate() {
            counters.connection_started();
            return StartDecision::Accept;
        }
        // Count a connection once, however often its client asks.
        if !refused.replace(true) {
            shared.refuse(Refusal::TooManyConnections {
                limit: shared.connections.limits().max_active,
            });
        }
        StartDecision::Reject
    };
    let context = ConnectionContext {
        export: &shared.export,
        counters,
        accept_start: &accept_start,
        handshake_timeout: shared.handshake_timeout,
        idle_timeout: shared.idle_timeout,
    };
    let peer = Peer::new(&guard, &shared.shutdown, shared.send_timeout);
    let result = serve_connection(&peer, &peer, context);
    let is_closing = shared.shutdown.has_reached(Phase::Closing);
    match result {
        Ok(()) | Err(ConnectionError::Closed | ConnectionError::TooManyConnections) => {}
        Err(_) if is_closing => {}
        Err(_) => counters.connection_broken(),
    }
    // If the server ends the connection, its last replies must not be lost in a reset.
    let is_ours = matches!(
        result,
        Err(ConnectionError::ProtocolViolation { .. }
            | ConnectionError::UnknownExport
            | ConnectionError::TooManyConnections
            | ConnectionError::FailedMidReply)
    );
    if is_closing || is_ours {
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
        let connections = &self.shared.connections;
        self.shared
            .counters
            .snapshot_with(connections.active() as u64, connections.handshakes() as u64)
    }
}

impl Shared {
    fn refuse(&self, refusal: Refusal) {
        self.counters.connection_refused();
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
