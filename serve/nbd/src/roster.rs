//! Who is connected.

use crate::socket::Socket;
use std::collections::HashMap;
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Clients without a seat that are spoken with at the same time, only to tell them so.
const MOST_STANDING: usize = 8;

/// The sockets of all connections, so that a shutdown can reach them.
#[derive(Debug)]
pub struct Roster {
    seats: usize,
    present: Mutex<Present>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct Present {
    next: u64,
    seated: HashMap<u64, Arc<Socket>>,
    standing: HashMap<u64, Arc<Socket>>,
}

/// A client's place.
#[derive(Debug)]
pub enum Place {
    /// It is served.
    Seated(Entry),
    /// It is told that there is no seat.
    Standing(Entry),
    /// It is closed without a word: even those who wait to be told are too many.
    None,
}

/// A line of the roster, struck out when dropped.
#[derive(Debug)]
pub struct Entry {
    roster: Arc<Roster>,
    socket: Arc<Socket>,
    number: u64,
}

impl Roster {
    /// Room for this many clients.
    pub fn new(seats: usize) -> Self {
        Self { seats, present: Mutex::default(), left: Condvar::new() }
    }

    /// Finds a place for a client.
    pub fn admit(self: &Arc<Self>, socket: Socket) -> Place {
        let socket = Arc::new(socket);
        let mut present = self.lock();
        let number = present.next;
        present.next += 1;
        let entry = |roster| Entry { roster, socket: Arc::clone(&socket), number };
        if present.seated.len() < self.seats {
            present.seated.insert(number, Arc::clone(&socket));
            Place::Seated(entry(Arc::clone(self)))
        } else if present.standing.len() < MOST_STANDING {
            present.standing.insert(number, Arc::clone(&socket));
            Place::Standing(entry(Arc::clone(self)))
        } else {
            Place::None
        }
    }

    /// Clients that have a seat.
    pub fn seated(&self) -> usize {
        self.lock().seated.len()
    }

    /// Ends one or both directions of every connection.
    pub fn shutdown(&self, how: Shutdown) {
        let present = self.lock();
        present.seated.values().chain(present.standing.values()).for_each(|socket| socket.shutdown(how));
    }

    /// Waits until nobody is left, at most `limit`. Returns whether nobody is.
    pub fn wait_empty(&self, limit: Duration) -> bool {
        let start = Instant::now();
        let mut present = self.lock();
        while !(present.seated.is_empty() && present.standing.is_empty()) {
            let Some(rest) = limit.checked_sub(start.elapsed()) else { return false };
            (present, _) = self.left.wait_timeout(present, rest).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Nothing under this lock can panic half-way, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// The client's socket.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut present = self.roster.lock();
        present.seated.remove(&self.number);
        present.standing.remove(&self.number);
        drop(present);
        self.roster.left.notify_all();
    }
}
