//! Who is connected.
//!
//! A connection first takes part in the handshake and gets a seat when its client starts. The two are counted apart, so clients
//! that connect and say nothing cannot keep the seats from clients that work.
//!
//! The places for the handshake are limited, too. When all are taken the oldest clients make room for the next ones, unless they are too
//! young: then the next ones wait. So each client gets its turn for a moment, however many say nothing.

use crate::socket::Socket;
use std::collections::BTreeMap;
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Clients that are served.
    pub max_active: usize,
    /// Clients in the handshake.
    pub max_handshakes: usize,
    /// How long a client in the handshake keeps its place while others wait for it.
    pub eviction_grace: Duration,
}

/// The sockets of all connections, so that a shutdown can reach them.
#[derive(Debug)]
pub struct ConnectionTable {
    limits: ConnectionLimits,
    inner: Mutex<TableInner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct TableInner {
    next: u64,
    active: usize,
    handshakes: usize,
    /// No place is waited for any more.
    closed: bool,
    /// By number, so oldest first.
    connections: BTreeMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    socket: Arc<Socket>,
    state: ConnectionState,
    /// Has done what had come before a shutdown.
    is_drained: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionState {
    /// In the handshake.
    Handshake { since: Instant },
    /// Was in the handshake, and had to leave for another client.
    Evicted,
    /// It is served.
    Active,
}

/// A client's place in the handshake, and what it cost.
#[derive(Debug)]
pub struct NewConnection {
    /// Keeps the connection in the table.
    pub guard: ConnectionGuard,
    /// Clients that had to leave for it.
    pub evicted: u64,
}

/// A connection in the table, removed when dropped.
#[derive(Debug)]
pub struct ConnectionGuard {
    table: Arc<ConnectionTable>,
    socket: Arc<Socket>,
    number: u64,
}

impl ConnectionTable {
    /// Creates a table without connections.
    pub fn new(limits: ConnectionLimits) -> Self {
        Self { limits, inner: Mutex::default(), changed: Condvar::new() }
    }

    /// Finds a place in the handshake for a client; waits for it if it must. Returns `None` when there is none and the table is closed.
    pub fn accept(self: &Arc<Self>, socket: Socket) -> Option<NewConnection> {
        let mut inner = self.lock();
        let mut evicted = 0;
        while inner.handshakes >= self.limits.max_handshakes {
            if inner.closed {
                return None;
            }
            let (count, wait) = inner.evict_oldest(self.limits);
            evicted += count;
            (inner, _) =
                self.changed.wait_timeout(inner, wait).unwrap_or_else(PoisonError::into_inner);
        }
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

    /// How many connections there may be.
    pub fn limits(&self) -> ConnectionLimits {
        self.limits
    }

    /// Lets no client wait for a place any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Clients that have a seat.
    pub fn active(&self) -> usize {
        self.lock().active
    }

    /// Clients in the handshake.
    pub fn handshakes(&self) -> usize {
        self.lock().handshakes
    }

    /// Ends one or both directions of every connection.
    pub fn shutdown(&self, how: Shutdown) {
        self.lock().connections.values().for_each(|connection| connection.socket.shutdown(how));
    }

    /// Waits until every client that has a seat is drained, at least `window` and at most `limit`, or until nobody is left.
    pub fn wait_drained(&self, window: Duration, limit: Duration) {
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

    /// Waits until nobody is left, at most `limit`. Returns whether nobody is.
    pub fn wait_empty(&self, limit: Duration) -> bool {
        let start = Instant::now();
        let mut inner = self.lock();
        while !inner.connections.is_empty() {
            let Some(rest) = limit.checked_sub(start.elapsed()) else { return false };
            (inner, _) =
                self.changed.wait_timeout(inner, rest).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Nothing under this lock can panic half-way, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, TableInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TableInner {
    /// Makes the oldest clients in the handshake leave: several, for each takes as long to leave as its thread needs to wake up. Returns
    /// how many, and how long to wait at most for a place.
    fn evict_oldest(&mut self, limits: ConnectionLimits) -> (u64, Duration) {
        let mut count = 0;
        let most = limits.max_handshakes.div_ceil(8) as u64;
        for connection in self.connections.values_mut() {
            match connection.state {
                ConnectionState::Active => continue,
                // Others are about to leave; they wait for their clients and for nothing else.
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
    /// The client's socket.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Notes that this client's requests from before a shutdown are done and answered.
    pub fn set_drained(&self) {
        if let Some(connection) = self.table.lock().connections.get_mut(&self.number) {
            connection.is_drained = true;
        }
        self.table.changed.notify_all();
    }

    /// Gives a client in the handshake a seat. Returns whether there was one.
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
