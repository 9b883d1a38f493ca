//! The server: takes clients in, gives each a thread, and ends in good order.

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
use block::BlockDevice;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cell::Cell;
use std::net::Shutdown;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// A connection's stack. Units: bytes. Reserved, not committed.
const STACK_SIZE: usize = 512 << 10;
/// Longest time that a client in the handshake keeps its place while others wait for it.
const MAX_EVICTION_GRACE: Duration = Duration::from_secs(1);
/// How long clients can still ask, to be refused, when a shutdown has nothing else to wait for.
const DRAIN_WINDOW: Duration = Duration::from_millis(500);
/// How long connections have to send what they owe when they are closed, and to end when that was not enough.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long to wait before trying again when the system has no file descriptor or memory for a client.
const ACCEPT_RETRY_DELAY: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

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
    connections: Arc<ConnectionTable>,
    handshake_timeout: Duration,
    send_timeout: Duration,
    idle_timeout: Option<Duration>,
    shutdown: Lifecycle,
    refusals: OnceLock<RefusalLog>,
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
    pub fn bind(
        listen: Listen,
        device: Arc<dyn BlockDevice>,
        config: ServerConfig,
    ) -> Result<Self, NbdError> {
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
        let shutdown = Lifecycle::new().map_err(NbdError::io("make an eventfd"))?;
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

    /// Returns the file that names the unix socket, for a process that has to end without [`Server::run`]
    /// returning. `None` where the server listens on TCP.
    #[must_use]
    pub fn socket_file(&self) -> Option<SocketFile> {
        self.listener.file()
    }

    /// Tells `log` of each client that is turned away. Has no effect when a log was set before.
    pub fn log_refusals(&self, log: RefusalLog) {
        // An error is the log that was too late.
        let _ = self.shared.refusals.set(log);
    }

    /// Serves until [`Handle::shutdown`] is called. Then it stops to listen and removes the socket file,
    /// finishes the requests that have come, refuses later ones with `ESHUTDOWN` and options with
    /// `REP_ERR_SHUTDOWN`, and closes all connections. What is not finished within
    /// [`ServerConfig::shutdown_grace`] is interrupted: a long trim or zeroing is answered with
    /// `ESHUTDOWN`.
    ///
    /// # Errors
    /// [`NbdError::Io`] when the system cannot wait for clients; clients cannot cause that.
    pub fn run(self) -> Result<(), NbdError> {
        let served = self.serve();
        let shared = Arc::clone(&self.shared);
        shared.shutdown.drain();
        shared.connections.close();
        // Clients that connected before the file was removed are told as well.
        self.listener.unlink();
        self.accept_pending(|| false);
        let (start, grace) = (Instant::now(), self.shutdown_grace);
        drop(self);
        shared.connections.wait_drained(DRAIN_WINDOW.min(grace), grace);
        shared.shutdown.close();
        if !shared.connections.wait_empty(CLOSE_TIMEOUT) {
            // What is left takes no replies, or waits for the device.
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

    /// Takes in the clients that wait until `is_over`, at most as many as the backlog holds: others may come as fast as these
    /// are taken in.
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
                // No descriptor or no memory: the client waits in the backlog until there is one.
                Err(_) => return self.wait_before_retry(),
            }
        }
    }

    /// Gives a client a place in the handshake, and a thread. Returns `None` when there is no place and the server shuts down.
    fn spawn_connection(&self, socket: Socket) -> Option<()> {
        let NewConnection { guard, evicted } = self.shared.connections.accept(socket)?;
        (0..evicted).for_each(|_| {
            self.shared.refuse(Refusal::Evicted {
                handshakes: self.shared.connections.limits().max_handshakes,
            })
        });
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(String::from("nbd")).stack_size(STACK_SIZE);
        // No thread to be had: the guard is dropped, which closes the connection.
        if thread.spawn(move || connection_main(&shared, guard)).is_err() {
            self.shared.refuse(Refusal::NoResources);
        }
        Some(())
    }

    fn wait_before_retry(&self) {
        let mut fds = [PollFd::from_borrowed_fd(self.shared.shutdown.draining(), PollFlags::IN)];
        // Early or late does not matter.
        let _ = poll(&mut fds, Some(&ACCEPT_RETRY_DELAY));
    }
}

/// One connection's thread.
fn connection_main(shared: &Shared, guard: ConnectionGuard) {
    let counters = &shared.counters;
    let refused = Cell::new(false);
    let accept_start = || {
        if guard.activate() {
            counters.connection_started();
            return StartDecision::Accept;
        }
        // Counted once, however often the client asks.
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
    // Only now may a shutdown return.
    drop(guard);
}

impl Handle {
    /// Ends the server: [`Server::run`] finishes the requests that have come and returns. May be called more than once.
    pub fn shutdown(&self) {
        self.shared.shutdown.drain();
        self.shared.connections.close();
    }

    /// What was counted so far.
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
