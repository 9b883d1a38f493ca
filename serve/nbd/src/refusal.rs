//! Clients that are turned away, told to people: one line a second of each kind, so that a flood of clients is no flood of lines.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two lines of one kind.
const INTERVAL: Duration = Duration::from_secs(1);

/// Why a client was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It belongs to a user who has no access to the unix socket.
    Peer {
        /// The user id, if the system told it.
        user: Option<u32>,
    },
    /// All connections are taken.
    TooManyConnections {
        /// How many there are.
        limit: usize,
    },
    /// It said nothing for long, and others waited for its place in the handshake.
    Evicted {
        /// How many places there are.
        handshakes: usize,
    },
    /// The system had no thread or no memory for it.
    NoResources,
}

/// Kinds of refusals, numbered by [`Refusal::kind`].
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

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer { user: Some(user) } => {
                write!(f, "refused a client of user {user}, who has no access")
            }
            Self::Peer { user: None } => write!(f, "refused a client whose user is not known"),
            Self::TooManyConnections { limit } => {
                write!(f, "refused a client: all {limit} connections are taken")
            }
            Self::Evicted { handshakes } => {
                write!(
                    f,
                    "closed a client that did not finish its handshake: others wait for its place, one of {handshakes}"
                )
            }
            Self::NoResources => write!(f, "refused a client: the system has no thread for it"),
        }
    }
}

/// Writes refusals, at most one line a second of each kind.
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
    /// Hands each line to `write`.
    pub fn new(write: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { write: Box::new(write), kinds: Default::default() }
    }

    /// Writes a refusal, or counts it for the next line of its kind.
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
    fn one_line_a_second_and_kind() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&lines);
        let log = RefusalLog::new(move |line| written.lock().unwrap().push(line.to_owned()));
        let start = Instant::now();
        for millis in 0..2500 {
            log.note_at(Refusal::Peer { user: Some(7) }, start + Duration::from_millis(millis));
        }
        log.note_at(Refusal::TooManyConnections { limit: 3 }, start);
        let peer = "refused a client of user 7, who has no access";
        let more = format!("{peer} (999 more like this were not shown)");
        let full = "refused a client: all 3 connections are taken";
        assert_eq!(*lines.lock().unwrap(), [peer, &more, &more, full]);
    }
}
