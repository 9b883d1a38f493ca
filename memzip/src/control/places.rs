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
pub(super) struct Places {
    limit: usize,
    /// How long a connection stays that is not being answered while others wait for its place.
    protected: Duration,
    /// Oldest first.
    taken: Mutex<VecDeque<Arc<Connection>>>,
    freed: Notify,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    state: Mutex<State>,
    evicted: Notify,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Sends its request or receives its answer, since then.
    Waiting(Instant),
    /// Is being answered.
    Working,
    /// Has to leave.
    Evicted,
}

/// A place that is taken; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    connection: Arc<Connection>,
}

/// A connection that is being answered, until this is dropped.
#[derive(Debug)]
pub(super) struct Working<'a>(&'a Connection);

impl Places {
    /// So many places.
    pub(super) fn new(limit: usize, protected: Duration) -> Arc<Self> {
        Arc::new(Self { limit, protected, taken: Mutex::default(), freed: Notify::new() })
    }

    /// Waits for a place. One caller at a time.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        loop {
            let wait = match self.try_take() {
                Ok(place) => return place,
                Err(wait) => wait,
            };
            tokio::select! {
                () = self.freed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Takes a place, or makes the oldest connection leave that may; else returns how long to wait.
    fn try_take(self: &Arc<Self>) -> Result<Place, Duration> {
        let mut taken = lock(&self.taken);
        if taken.len() < self.limit {
            let state = Mutex::new(State::Waiting(Instant::now()));
            let connection = Arc::new(Connection { state, evicted: Notify::new() });
            taken.push_back(Arc::clone(&connection));
            return Ok(Place { places: Arc::clone(self), connection });
        }
        // Those that are being answered stay, however long that takes.
        let oldest =
            taken.iter().find_map(|connection| Some((connection.waiting_since()?, connection)));
        let Some((since, connection)) = oldest else { return Err(self.protected) };
        match self.protected.checked_sub(since.elapsed()) {
            Some(left) if !left.is_zero() => Err(left),
            _ => {
                connection.evict();
                Err(self.protected)
            }
        }
    }
}

impl Connection {
    fn waiting_since(&self) -> Option<Instant> {
        match *lock(&self.state) {
            State::Waiting(since) => Some(since),
            State::Working | State::Evicted => None,
        }
    }

    fn evict(&self) {
        *lock(&self.state) = State::Evicted;
        self.evicted.notify_one();
    }

    /// Keeps the place while the connection is being answered.
    pub(super) fn work(&self) -> Working<'_> {
        self.change(State::Working);
        Working(self)
    }

    /// A connection that has to leave stays so.
    fn change(&self, to: State) {
        let mut state = lock(&self.state);
        if !matches!(*state, State::Evicted) {
            *state = to;
        }
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.change(State::Waiting(Instant::now()));
    }
}

impl Place {
    /// The connection that has the place.
    pub(super) fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }

    /// Waits until the connection has to leave.
    pub(super) async fn evicted(&self) {
        self.connection.evicted.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.places.taken).retain(|other| !Arc::ptr_eq(other, &self.connection));
        self.places.freed.notify_one();
    }
}

/// Nothing under these locks can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
