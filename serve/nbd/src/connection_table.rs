//! The table of all connections and the limits on their number.
//!
//! A connection starts in the handshake and becomes active when its client enters the
//! transmission phase. The two states have separate limits, so that silent clients cannot keep
//! working clients out.
//!
//! When the handshake limit is reached, the oldest clients in the handshake are evicted. A client
//! is not evicted during its grace period: new clients wait until it is over. So each client gets
//! a chance, however many stay silent.

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::socket::Socket;

/// The limits on the number of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// Connections in the transmission phase.
    pub max_active: usize,
    /// Connections in the handshake.
    pub max_handshakes: usize,
    /// Time in the handshake during which a client is not evicted.
    pub eviction_grace: Duration,
}

/// The table of all connections, which a shutdown uses to reach their sockets.
#[derive(Debug)]
pub(crate) struct ConnectionTable {
    limits: ConnectionLimits,
    inner: Mutex<TableInner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct TableInner {
    next: u64,
    active: usize,
    handshakes: usize,
    /// Clients no longer wait for a place in the handshake.
    closed: bool,
    /// Ordered by connection number: the oldest first.
    connections: BTreeMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    socket: Arc<Socket>,
    state: ConnectionState,
    /// All requests that arrived before the shutdown are done.
    is_drained: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionState {
    /// In the handshake.
    Handshake { since: Instant },
    /// Evicted from the handshake to make room for a new client.
    Evicted,
    /// In the transmission phase.
    Active,
}

/// A new connection and the number of evictions it took.
#[derive(Debug)]
pub(crate) struct NewConnection {
    /// Keeps the connection in the table.
    pub guard: ConnectionGuard,
    /// Number of clients evicted to make room for it.
    pub evicted: u64,
}

/// A connection's entry in the table, which is removed on drop.
#[derive(Debug)]
pub struct ConnectionGuard {
    table: Arc<ConnectionTable>,
    socket: Arc<Socket>,
    number: u64,
}

impl ConnectionTable {
    /// Creates a table without connections.
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        Self { limits, inner: Mutex::default(), changed: Condvar::new() }
    }

    /// Adds a connection in the handshake. If the handshake limit is reached, evicts the oldest
    /// clients and blocks until one has left. Returns `None` if the limit is reached and the
    /// table is closed.
    pub(crate) fn accept(self: &Arc<Self>, socket: Socket) -> Option<NewConnection> {
        let mut inner = self.lock();
        let mut evicted = 0;
        // Wait for a place in the handshake.
        while inner.handshakes >= self.limits.max_handshakes {
            if inner.closed {
                return None;
            }
            let (count, wait) = inner.evict_oldest(self.limits);
            evicted += count;
            (inner, _) =
                self.changed.wait_timeout(inner, wait).unwrap_or_else(PoisonError::into_inner);
        }
        // Enter the connection under the next number.
        let socket = Arc::new(socket);
        let number = inner.next;
        inner.next += 1;
        inner.handshakes += 1;
        let state = ConnectionState::Handshake { since: Instant::now() };
        inner
            .connections
            .insert(number, Connection { socket: Arc::clone(&socket), state, is_drained: false });
        Some(NewConnection {
            guard: ConnectionGuard { table: Arc::clone(self), socket, number },
            evicted,
        })
    }

    /// Returns the limits on the number of connections.
    pub(crate) fn limits(&self) -> ConnectionLimits {
        self.limits
    }

    /// Closes the table: [`ConnectionTable::accept`] no longer waits for a free place.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Returns the number of active connections.
    pub(crate) fn active(&self) -> usize {
        self.lock().active
    }

    /// Returns the number of connections in the handshake.
    pub(crate) fn handshakes(&self) -> usize {
        self.lock().handshakes
    }

    /// Shuts down one or both directions of every connection's socket.
    pub(crate) fn shutdown(&self, how: Shutdown) {
        self.lock().connections.values().for_each(|connection| connection.socket.shutdown(how));
    }

    /// Waits until all active connections are drained: at least `window`, at most `limit`.
    /// Returns early when the table is empty.
    pub(crate) fn wait_drained(&self, window: Duration, limit: Duration) {
        let start = Instant::now();
        let mut inner = self.lock();
        while !inner.connections.is_empty() {
            let is_busy = inner.connections.values().any(|connection| {
                connection.state == ConnectionState::Active && !connection.is_drained
            });
            let end = if is_busy { limit } else { window.min(limit) };
            let Some(rest) = end.checked_sub(start.elapsed()).filter(|rest| !rest.is_zero()) else {
                return;
            };
            (inner, _) =
                self.changed.wait_timeout(inner, rest).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until the table is empty, at most `limit`. Returns whether it is empty.
    pub(crate) fn wait_empty(&self, limit: Duration) -> bool {
        let start = Instant::now();
        let mut inner = self.lock();
        while !inner.connections.is_empty() {
            let Some(rest) = limit.checked_sub(start.elapsed()) else { return false };
            (inner, _) =
                self.changed.wait_timeout(inner, rest).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Locks the table. No code under this lock panics half-way, so a poisoned lock is valid.
    fn lock(&self) -> MutexGuard<'_, TableInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TableInner {
    /// Evicts the oldest clients in the handshake that are past their grace period. Evicts an
    /// eighth of the handshake limit at a time, because each client leaves only when its thread
    /// wakes up.
    ///
    /// Returns the number of evicted clients and the longest time to wait for a free place.
    fn evict_oldest(&mut self, limits: ConnectionLimits) -> (u64, Duration) {
        let mut count = 0;
        let most = limits.max_handshakes.div_ceil(8) as u64;
        for connection in self.connections.values_mut() {
            match connection.state {
                ConnectionState::Active => continue,
                // An older client is already about to leave: wait for it before evicting more.
                ConnectionState::Evicted => break,
                ConnectionState::Handshake { since } => {
                    match limits.eviction_grace.checked_sub(since.elapsed()) {
                        Some(left) if !left.is_zero() && count == 0 => return (0, left),
                        Some(left) if !left.is_zero() => break,
                        _ => {
                            connection.state = ConnectionState::Evicted;
                            connection.socket.shutdown(Shutdown::Both);
                            count += 1;
                        }
                    }
                }
            }
            if count == most {
                break;
            }
        }
        (count, limits.eviction_grace)
    }
}

impl ConnectionGuard {
    /// Returns the client's socket.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Marks the connection as drained: its requests from before the shutdown are answered.
    pub fn set_drained(&self) {
        if let Some(connection) = self.table.lock().connections.get_mut(&self.number) {
            connection.is_drained = true;
        }
        self.table.changed.notify_all();
    }

    /// Makes a connection in the handshake active. Returns `false` if the limit on active
    /// connections is reached or the connection was evicted.
    pub fn activate(&self) -> bool {
        let mut inner = self.table.lock();
        if inner.active >= self.table.limits.max_active {
            return false;
        }
        let Some(connection) = inner.connections.get_mut(&self.number) else { return false };
        if !matches!(connection.state, ConnectionState::Handshake { .. }) {
            return false;
        }
        connection.state = ConnectionState::Active;
        inner.active += 1;
        inner.handshakes -= 1;
        drop(inner);
        self.table.changed.notify_all();
        true
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut inner = self.table.lock();
        match inner.connections.remove(&self.number).map(|connection| connection.state) {
            Some(ConnectionState::Active) => inner.active -= 1,
            Some(ConnectionState::Handshake { .. } | ConnectionState::Evicted) => {
                inner.handshakes -= 1
            }
            None => {}
        }
        drop(inner);
        self.table.changed.notify_all();
    }
}
