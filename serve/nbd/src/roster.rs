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
pub struct Limits {
    /// Clients that are served.
    pub seats: usize,
    /// Clients in the handshake.
    pub handshakes: usize,
    /// How long a client in the handshake keeps its place while others wait for it.
    pub protected: Duration,
}

/// The sockets of all connections, so that a shutdown can reach them.
#[derive(Debug)]
pub struct Roster {
    limits: Limits,
    present: Mutex<Present>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Present {
    next: u64,
    seated: usize,
    handshakes: usize,
    /// No place is waited for any more.
    closed: bool,
    /// By number, so oldest first.
    lines: BTreeMap<u64, Line>,
}

#[derive(Debug)]
struct Line {
    socket: Arc<Socket>,
    state: State,
    /// Has done what had come before a shutdown.
    is_drained: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the handshake.
    Handshake { since: Instant },
    /// Was in the handshake, and had to leave for another client.
    Evicted,
    /// It is served.
    Seated,
}

/// A client's place in the handshake, and what it cost.
#[derive(Debug)]
pub struct Admitted {
    /// Its line in the roster.
    pub entry: Entry,
    /// Clients that had to leave for it.
    pub evicted: u64,
}

/// A line of the roster, struck out when dropped.
#[derive(Debug)]
pub struct Entry {
    roster: Arc<Roster>,
    socket: Arc<Socket>,
    number: u64,
}

impl Roster {
    /// A roster without clients.
    pub fn new(limits: Limits) -> Self {
        Self { limits, present: Mutex::default(), changed: Condvar::new() }
    }

    /// Finds a place in the handshake for a client; waits for it if it must. Returns `None` when there is none and the roster is closed.
    pub fn admit(self: &Arc<Self>, socket: Socket) -> Option<Admitted> {
        let mut present = self.lock();
        let mut evicted = 0;
        while present.handshakes >= self.limits.handshakes {
            if present.closed {
                return None;
            }
            let (count, wait) = present.evict_oldest(self.limits);
            evicted += count;
            (present, _) =
                self.changed.wait_timeout(present, wait).unwrap_or_else(PoisonError::into_inner);
        }
        let socket = Arc::new(socket);
        let number = present.next;
        present.next += 1;
        present.handshakes += 1;
        let state = State::Handshake { since: Instant::now() };
        present
            .lines
            .insert(number, Line { socket: Arc::clone(&socket), state, is_drained: false });
        Some(Admitted { entry: Entry { roster: Arc::clone(self), socket, number }, evicted })
    }

    /// How many connections there may be.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Lets no client wait for a place any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Clients that have a seat.
    pub fn seated(&self) -> usize {
        self.lock().seated
    }

    /// Clients in the handshake.
    pub fn handshakes(&self) -> usize {
        self.lock().handshakes
    }

    /// Ends one or both directions of every connection.
    pub fn shutdown(&self, how: Shutdown) {
        self.lock().lines.values().for_each(|line| line.socket.shutdown(how));
    }

    /// Waits until every client that has a seat is drained, at least `window` and at most `limit`, or until nobody is left.
    pub fn wait_drained(&self, window: Duration, limit: Duration) {
        let start = Instant::now();
        let mut present = self.lock();
        while !present.lines.is_empty() {
            let is_busy =
                present.lines.values().any(|line| line.state == State::Seated && !line.is_drained);
            let end = if is_busy { limit } else { window.min(limit) };
            let Some(rest) = end.checked_sub(start.elapsed()).filter(|rest| !rest.is_zero()) else {
                return;
            };
            (present, _) =
                self.changed.wait_timeout(present, rest).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until nobody is left, at most `limit`. Returns whether nobody is.
    pub fn wait_empty(&self, limit: Duration) -> bool {
        let start = Instant::now();
        let mut present = self.lock();
        while !present.lines.is_empty() {
            let Some(rest) = limit.checked_sub(start.elapsed()) else { return false };
            (present, _) =
                self.changed.wait_timeout(present, rest).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Nothing under this lock can panic half-way, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Present {
    /// Makes the oldest clients in the handshake leave: several, for each takes as long to leave as its thread needs to wake up. Returns
    /// how many, and how long to wait at most for a place.
    fn evict_oldest(&mut self, limits: Limits) -> (u64, Duration) {
        let mut count = 0;
        let most = limits.handshakes.div_ceil(8) as u64;
        for line in self.lines.values_mut() {
            match line.state {
                State::Seated => continue,
                // Others are about to leave; they wait for their clients and for nothing else.
                State::Evicted => break,
                State::Handshake { since } => match limits.protected.checked_sub(since.elapsed()) {
                    Some(left) if !left.is_zero() && count == 0 => return (0, left),
                    Some(left) if !left.is_zero() => break,
                    _ => {
                        line.state = State::Evicted;
                        line.socket.shutdown(Shutdown::Both);
                        count += 1;
                    }
                },
            }
            if count == most {
                break;
            }
        }
        (count, limits.protected)
    }
}

impl Entry {
    /// The client's socket.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Notes that this client's requests from before a shutdown are done and answered.
    pub fn set_drained(&self) {
        if let Some(line) = self.roster.lock().lines.get_mut(&self.number) {
            line.is_drained = true;
        }
        self.roster.changed.notify_all();
    }

    /// Gives a client in the handshake a seat. Returns whether there was one.
    pub fn take_seat(&self) -> bool {
        let mut present = self.roster.lock();
        if present.seated >= self.roster.limits.seats {
            return false;
        }
        let Some(line) = present.lines.get_mut(&self.number) else { return false };
        if !matches!(line.state, State::Handshake { .. }) {
            return false;
        }
        line.state = State::Seated;
        present.seated += 1;
        present.handshakes -= 1;
        drop(present);
        self.roster.changed.notify_all();
        true
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut present = self.roster.lock();
        match present.lines.remove(&self.number).map(|line| line.state) {
            Some(State::Seated) => present.seated -= 1,
            Some(State::Handshake { .. } | State::Evicted) => present.handshakes -= 1,
            None => {}
        }
        drop(present);
        self.roster.changed.notify_all();
    }
}
