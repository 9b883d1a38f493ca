//! The limit on connections to the control plane.
//!
//! When all slots are taken the oldest connection is evicted for the next client, unless it is
//! being answered or is younger than the grace time. So clients that connect and send nothing
//! cannot keep out a client that asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The slots of all connections.
#[derive(Debug)]
pub(super) struct ConnectionSlots {
    limit: usize,
    /// Minimum time in its slot of a connection that is not being answered.
    eviction_grace: Duration,
    /// Connections that have a slot, oldest first.
    taken: Mutex<Vec<Arc<Connection>>>,
    freed: Notify,
}

/// A connection that has a slot.
#[derive(Debug)]
pub(super) struct Connection {
    state: Mutex<ConnectionState>,
    evicted: Notify,
}

#[derive(Clone, Copy, Debug)]
enum ConnectionState {
    /// Sends its request or receives its answer, since this time.
    Waiting(Instant),
    /// Is being answered.
    Busy,
    /// Must close.
    Evicted,
}

/// A slot that is taken; dropping it frees the slot.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    connection: Arc<Connection>,
}

/// Marks a connection as being answered until dropped.
#[derive(Debug)]
pub(super) struct BusyGuard<'a>(&'a Connection);

impl ConnectionSlots {
    /// Creates `limit` free slots.
    pub(super) fn new(limit: usize, eviction_grace: Duration) -> Arc<Self> {
        Arc::new(Self { limit, eviction_grace, taken: Mutex::default(), freed: Notify::new() })
    }

    /// Waits for a free slot. Only one caller may wait at a time.
    pub(super) async fn acquire(self: &Arc<Self>) -> ConnectionSlot {
        loop {
            let wait = match self.try_acquire() {
                Ok(slot) => return slot,
                Err(wait) => wait,
            };
            tokio::select! {
                () = self.freed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Takes a slot; else evicts the oldest connection, if it may, and returns how long to wait.
    fn try_acquire(self: &Arc<Self>) -> Result<ConnectionSlot, Duration> {
        let mut taken = self.taken.lock();
        if taken.len() < self.limit {
            let state = Mutex::new(ConnectionState::Waiting(Instant::now()));
            let connection = Arc::new(Connection { state, evicted: Notify::new() });
            taken.push(Arc::clone(&connection));
            return Ok(ConnectionSlot { slots: Arc::clone(self), connection });
        }
        // Connections that are being answered keep their slot, however long that takes.
        let oldest = taken.iter().find_map(|connection| match *connection.state.lock() {
            ConnectionState::Waiting(since) => Some((since, connection)),
            ConnectionState::Busy | ConnectionState::Evicted => None,
        });
        let Some((since, connection)) = oldest else { return Err(self.eviction_grace) };
        let left = self.eviction_grace.saturating_sub(since.elapsed());
        if !left.is_zero() {
            return Err(left);
        }
        *connection.state.lock() = ConnectionState::Evicted;
        connection.evicted.notify_one();
        Err(self.eviction_grace)
    }
}

impl Connection {
    /// Protects the connection from eviction while it is being answered.
    pub(super) fn mark_busy(&self) -> BusyGuard<'_> {
        self.change(ConnectionState::Busy);
        BusyGuard(self)
    }

    /// Changes the state, except that an evicted connection stays evicted.
    fn change(&self, to: ConnectionState) {
        let mut state = self.state.lock();
        if !matches!(*state, ConnectionState::Evicted) {
            *state = to;
        }
    }
}

impl Drop for BusyGuard<'_> {
    fn drop(&mut self) {
        self.0.change(ConnectionState::Waiting(Instant::now()));
    }
}

impl ConnectionSlot {
    /// Returns the connection that has the slot.
    pub(super) fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }

    /// Waits until the connection is evicted.
    pub(super) async fn evicted(&self) {
        self.connection.evicted.notified().await;
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.slots.taken.lock().retain(|other| !Arc::ptr_eq(other, &self.connection));
        self.slots.freed.notify_one();
    }
}
