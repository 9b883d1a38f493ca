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
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::Shutdown;

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
    /// The limits on the number of connections.
    pub limits: ConnectionLimits,
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

/// A connection's entry in the table, which is removed on drop.
#[derive(Debug)]
pub struct ConnectionGuard {
    table: Arc<ConnectionTable>,
    /// The client's socket.
    pub(crate) socket: Arc<Socket>,
    number: u64,
}

impl ConnectionTable {
    /// Creates a table without connections.
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        Self { limits, inner: Mutex::default(), changed: Condvar::new() }
    }

    /// Adds a connection in the handshake. If the handshake limit is reached, evicts the oldest
    /// clients and blocks until one has left. Returns the connection and the number of evicted
    /// clients, or `None` if the limit is reached and the table is closed.
    pub(crate) fn accept(self: &Arc<Self>, socket: Socket) -> Option<(ConnectionGuard, u64)> {
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
        let (socket, number) = (Arc::new(socket), inner.next);
        inner.next += 1;
        inner.handshakes += 1;
        let state = ConnectionState::Handshake { since: Instant::now() };
        let connection = Connection { socket: Arc::clone(&socket), state, is_drained: false };
        inner.connections.insert(number, connection);
        Some((ConnectionGuard { table: Arc::clone(self), socket, number }, evicted))
    }

    /// Closes the table: [`ConnectionTable::accept`] no longer waits for a free place.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Returns the numbers of connections that are active and in the handshake.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.active as u64, inner.handshakes as u64)
    }

    /// Shuts down the sockets of all connections.
    pub(crate) fn shutdown(&self) {
        for connection in self.lock().connections.values() {
            connection.socket.shutdown(Shutdown::Both);
        }
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
        let is_busy = |inner: &mut TableInner| !inner.connections.is_empty();
        let waited = self.changed.wait_timeout_while(self.lock(), limit, is_busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
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
                    let left = limits.eviction_grace.saturating_sub(since.elapsed());
                    if !left.is_zero() {
                        return (count, if count == 0 { left } else { limits.eviction_grace });
                    }
                    connection.state = ConnectionState::Evicted;
                    connection.socket.shutdown(Shutdown::Both);
                    count += 1;
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
        match inner.connections.get_mut(&self.number).map(|connection| &mut connection.state) {
            Some(state @ ConnectionState::Handshake { .. }) => *state = ConnectionState::Active,
            _ => return false,
        }
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
