//! Refused clients and their log: at most one line per second and kind, so that many refused
//! clients cannot flood the log.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;

/// Time between two lines of the same kind.
const INTERVAL: Duration = Duration::from_secs(1);

/// The reason why a client was refused. Its text is a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The client's user has no access to the unix socket.
    #[error("refused a client of {}", peer(*user))]
    Peer {
        /// The user id. `None` if the system did not report it.
        user: Option<u32>,
    },
    /// The limit on connections is reached.
    #[error("refused a client: all {limit} connections are taken")]
    TooManyConnections {
        /// The limit.
        limit: usize,
    },
    /// The client was evicted from the handshake to make room for another one.
    #[error("closed a client in its handshake: others wait for one of the {handshakes} places")]
    Evicted {
        /// The limit on connections in the handshake.
        handshakes: usize,
    },
    /// The system had no thread or no memory for the client.
    #[error("refused a client: no thread or memory for it")]
    NoResources,
}

fn peer(user: Option<u32>) -> String {
    match user {
        Some(user) => format!("user {user}, which has no access"),
        None => String::from("an unknown user"),
    }
}

/// Number of kinds, which [`Refusal::kind`] returns.
const KINDS: usize = 4;

impl Refusal {
    fn kind(self) -> usize {
        match self {
            Self::Peer { .. } => 0,
            Self::TooManyConnections { .. } => 1,
            Self::Evicted { .. } => 2,
            Self::NoResources => 3,
        }
    }
}

/// A log of refusals, with at most one line per second and kind.
pub struct RefusalLog {
    write: Box<dyn Fn(&str) + Send + Sync>,
    kinds: [Mutex<Kind>; KINDS],
}

#[derive(Debug, Default)]
struct Kind {
    last: Option<Instant>,
    unwritten: u64,
}

impl RefusalLog {
    /// Creates a log that passes each line to `write`.
    pub fn new(write: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { write: Box::new(write), kinds: Default::default() }
    }

    /// Writes a refusal, or counts it for the next line of its kind. `write` is called without a
    /// lock held.
    pub fn note(&self, refusal: Refusal) {
        self.note_at(refusal, Instant::now());
    }

    fn note_at(&self, refusal: Refusal, now: Instant) {
        let mut kind = self.kinds[refusal.kind()].lock().unwrap_or_else(PoisonError::into_inner);
        if kind.last.is_some_and(|last| now.duration_since(last) < INTERVAL) {
            kind.unwritten += 1;
            return;
        }
        kind.last = Some(now);
        let unwritten = std::mem::take(&mut kind.unwritten);
        drop(kind);
        match unwritten {
            0 => (self.write)(&refusal.to_string()),
            count => (self.write)(&format!("{refusal} ({count} more like this were not shown)")),
        }
    }
}

impl fmt::Debug for RefusalLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusalLog").field("kinds", &self.kinds).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn each_kind_writes_one_line_per_second() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&lines);
        let log = RefusalLog::new(move |line| written.lock().unwrap().push(line.to_owned()));
        let start = Instant::now();
        for millis in 0..2500 {
            log.note_at(Refusal::Peer { user: Some(7) }, start + Duration::from_millis(millis));
        }
        log.note_at(Refusal::TooManyConnections { limit: 3 }, start);
        let peer = "refused a client of user 7, which has no access";
        let more = format!("{peer} (999 more like this were not shown)");
        let full = "refused a client: all 3 connections are taken";
        assert_eq!(*lines.lock().unwrap(), [peer, &more, &more, full]);
    }
}
