//! The places for connections to the control plane.
//!
//! When all are taken the oldest connection makes room for the next client, unless it is being answered or is very young. So clients that
//! connect and say nothing cannot keep out one that asks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// All connections.
#[derive(Debug)]
pub(super) struct ConnectionSlots {
    limit: usize,
    /// How long a connection stays that is not being answered while others wait for its place.
    eviction_grace: Duration,
    /// Oldest first.
    taken: Mutex<VecDeque<Arc<Connection>>>,
    freed: Notify,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    state: Mutex<ConnectionState>,
    evicted: Notify,
}

#[derive(Clone, Copy, Debug)]
enum ConnectionState {
    /// Sends its request or receives its answer, since then.
    Waiting(Instant),
    /// Is being answered.
    Busy,
    /// Has to leave.
    Evicted,
}

/// A place that is taken; free again when dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    connection: Arc<Connection>,
}

/// A connection that is being answered, until this is dropped.
#[derive(Debug)]
pub(super) struct BusyGuard<'a>(&'a Connection);

impl ConnectionSlots {
    /// So many places.
    pub(super) fn new(limit: usize, eviction_grace: Duration) -> Arc<Self> {
        Arc::new(Self { limit, eviction_grace, taken: Mutex::default(), freed: Notify::new() })
    }

    /// Waits for a place. One caller at a time.
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

    /// Takes a place, or makes the oldest connection leave that may; else returns how long to wait.
    fn try_acquire(self: &Arc<Self>) -> Result<ConnectionSlot, Duration> {
        let mut taken = lock(&self.taken);
        if taken.len() < self.limit {
            let state = Mutex::new(ConnectionState::Waiting(Instant::now()));
            let connection = Arc::new(Connection { state, evicted: Notify::new() });
            taken.push_back(Arc::clone(&connection));
            return Ok(ConnectionSlot { slots: Arc::clone(self), connection });
        }
        // Those that are being answered stay, however long that takes.
        let oldest =
            taken.iter().find_map(|connection| Some((connection.waiting_since()?, connection)));
        let Some((since, connection)) = oldest else { return Err(self.eviction_grace) };
        match self.eviction_grace.checked_sub(since.elapsed()) {
            Some(left) if !left.is_zero() => Err(left),
            _ => {
                connection.evict();
                Err(self.eviction_grace)
            }
        }
    }
}

impl Connection {
    fn waiting_since(&self) -> Option<Instant> {
        match *lock(&self.state) {
            ConnectionState::Waiting(since) => Some(since),
            ConnectionState::Busy | ConnectionState::Evicted => None,
        }
    }

    fn evict(&self) {
        *lock(&self.state) = ConnectionState::Evicted;
        self.evicted.notify_one();
    }

    /// Keeps the place while the connection is being answered.
    pub(super) fn mark_busy(&self) -> BusyGuard<'_> {
        self.change(ConnectionState::Busy);
        BusyGuard(self)
    }

    /// A connection that has to leave stays so.
    fn change(&self, to: ConnectionState) {
        let mut state = lock(&self.state);
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
    /// The connection that has the place.
    pub(super) fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }

    /// Waits until the connection has to leave.
    pub(super) async fn evicted(&self) {
        self.connection.evicted.notified().await;
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        lock(&self.slots.taken).retain(|other| !Arc::ptr_eq(other, &self.connection));
        self.slots.freed.notify_one();
    }
}

/// Nothing under these locks can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
