//! Counters of requests, errors, bytes and connections.
//!
//! A connection counts in plain integers of its own and adds them to the shared atomics once per
//! batch, so that a request writes no shared cache line.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::channel::{READ_BUFFER_LEN, WRITE_BUFFER_LEN};
use crate::reply_buffers::ReplyBufferPool;
use crate::wire::request::cmd;
use crate::wire::request_error::Errno;

/// Number of request counters: one per known command and one for all others.
const COMMANDS: usize = cmd::BLOCK_STATUS as usize + 2;

/// Size of one connection's buffers. Units: bytes.
pub(crate) const CONNECTION_BUFFERS: u64 = (READ_BUFFER_LEN + WRITE_BUFFER_LEN) as u64;

/// Number of requests by command, successful or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct Requests {
    /// `READ`.
    pub read: u64,
    /// `WRITE`.
    pub write: u64,
    /// `FLUSH`.
    pub flush: u64,
    /// `TRIM`.
    pub trim: u64,
    /// `CACHE`.
    pub cache: u64,
    /// `WRITE_ZEROES`.
    pub write_zeroes: u64,
    /// `BLOCK_STATUS`.
    pub block_status: u64,
    /// `DISC`.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub disconnect: u64,
    /// Unknown commands.
    pub unknown: u64,
}

/// Number of error replies by error number, and of connections that ended with an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct Errors {
    /// `EPERM`: a change to a read-only device.
    #[cfg_attr(feature = "serde", serde(rename = "eperm"))]
    pub not_permitted: u64,
    /// `EIO`: a page could not be read back, or the device failed.
    #[cfg_attr(feature = "serde", serde(rename = "eio"))]
    pub io: u64,
    /// `EINVAL`: the request is invalid.
    #[cfg_attr(feature = "serde", serde(rename = "einval"))]
    pub invalid: u64,
    /// `ENOSPC`: the memory limit was reached, or a write goes past the end of the device.
    #[cfg_attr(feature = "serde", serde(rename = "enospc"))]
    pub no_space: u64,
    /// `EOVERFLOW`: a read is too long.
    #[cfg_attr(feature = "serde", serde(rename = "eoverflow"))]
    pub overflow: u64,
    /// `ENOTSUP`: zeroing with `FAST_ZERO` would be slow.
    #[cfg_attr(feature = "serde", serde(rename = "enotsup"))]
    pub not_supported: u64,
    /// `ESHUTDOWN`: the request arrived during a shutdown.
    #[cfg_attr(feature = "serde", serde(rename = "eshutdown"))]
    pub shutting_down: u64,
    /// Connections that ended in the middle of a message, with a protocol violation, or on a
    /// timeout.
    #[cfg_attr(feature = "serde", serde(rename = "broken_conversations"))]
    pub broken_connections: u64,
}

/// A snapshot of the counters. It is not atomic: under load, a part of a batch may be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct Stats {
    /// Connections in the transmission phase now.
    #[cfg_attr(feature = "serde", serde(rename = "connections"))]
    pub connections_current: u64,
    /// Connections in the handshake now.
    #[cfg_attr(feature = "serde", serde(rename = "handshakes"))]
    pub handshakes_current: u64,
    /// Connections that have entered the transmission phase so far.
    pub connections_total: u64,
    /// Refused connections: too many connections, evicted from the handshake, no access, or no
    /// resources.
    pub connections_refused: u64,
    /// Content sent to clients, including holes. Units: bytes.
    pub bytes_read: u64,
    /// Content stored for clients. Units: bytes.
    pub bytes_written: u64,
    /// Size of the buffers of all current connections, touched or not, and of the allocated
    /// buffers for long replies. Units: bytes.
    pub buffer_bytes: u64,
    /// Number of requests by command.
    pub requests: Requests,
    /// Number of errors by kind.
    pub errors: Errors,
}

/// Counts of one connection since its last [`Counters::merge`].
#[derive(Debug, Default)]
pub(crate) struct LocalCounters {
    requests: [u64; COMMANDS],
    errors: [u64; Errno::COUNT],
    /// Units: bytes.
    pub bytes_read: u64,
    /// Units: bytes.
    pub bytes_written: u64,
}

impl LocalCounters {
    /// Counts a request with this command number.
    pub(crate) fn request(&mut self, kind: u16) {
        self.requests[usize::from(kind).min(COMMANDS - 1)] += 1;
    }

    /// Counts an error reply.
    pub(crate) fn error(&mut self, errno: Errno) {
        self.errors[errno as usize] += 1;
    }
}

/// The counters shared by all connections. They are independent sums, so `Relaxed` suffices.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that became active.
    pub(crate) connections_total: Counter,
    pub(crate) connections_refused: Counter,
    /// Connections that ended with an error.
    pub(crate) connections_broken: Counter,
    requests: [Counter; COMMANDS],
    errors: [Counter; Errno::COUNT],
    bytes_read: Counter,
    bytes_written: Counter,
    /// The buffers for long replies, shared by all connections that count here.
    pub(crate) reply_buffers: ReplyBufferPool,
}

impl Counters {
    /// Adds a connection's counts to the shared counters and resets them.
    pub(crate) fn merge(&self, local: &mut LocalCounters) {
        let LocalCounters { requests, errors, bytes_read, bytes_written } = std::mem::take(local);
        self.requests.iter().zip(requests).for_each(|(counter, count)| counter.add(count));
        self.errors.iter().zip(errors).for_each(|(counter, count)| counter.add(count));
        self.bytes_read.add(bytes_read);
        self.bytes_written.add(bytes_written);
    }

    /// Returns the counts so far, with zero current connections: the connection table counts
    /// those.
    #[must_use]
    pub fn snapshot(&self) -> Stats {
        let request = |kind: u16| self.requests[usize::from(kind)].get();
        let error = |errno: Errno| self.errors[errno as usize].get();
        Stats {
            connections_current: 0,
            handshakes_current: 0,
            buffer_bytes: self.reply_buffers.allocated(),
            connections_total: self.connections_total.get(),
            connections_refused: self.connections_refused.get(),
            requests: Requests {
                read: request(cmd::READ),
                write: request(cmd::WRITE),
                flush: request(cmd::FLUSH),
                trim: request(cmd::TRIM),
                cache: request(cmd::CACHE),
                write_zeroes: request(cmd::WRITE_ZEROES),
                block_status: request(cmd::BLOCK_STATUS),
                disconnect: request(cmd::DISC),
                unknown: self.requests[COMMANDS - 1].get(),
            },
            errors: Errors {
                not_permitted: error(Errno::Perm),
                io: error(Errno::Io),
                invalid: error(Errno::Inval),
                no_space: error(Errno::NoSpc),
                overflow: error(Errno::Overflow),
                not_supported: error(Errno::NotSup),
                shutting_down: error(Errno::Shutdown),
                broken_connections: self.connections_broken.get(),
            },
            bytes_read: self.bytes_read.get(),
            bytes_written: self.bytes_written.get(),
        }
    }
}

/// A sum.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. Writes nothing if it is 0.
    pub(crate) fn add(&self, count: u64) {
        if count > 0 {
            self.0.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
